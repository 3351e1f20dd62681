"""The pieces that `sluice up` starts on one machine: the jars, the embedded broker, the parts and their supervision."""
