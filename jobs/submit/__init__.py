"""For `spark-submit`: what it must be told, and the script that it runs.

    spark-submit --master spark://HOST:7077 $(python -m jobs.submit) tables --data /mnt/sluice

`python -m jobs.submit` prints the options of this installation (its interpreter, the jars, what Spark logs) and, last, the path of
sluice.py: the command `sluice` as a script. It lies in a folder of its own, because Python looks for modules in a script's folder first.
deploy/cluster.md says the rest. Fails with JavaMissing or JarsUnavailable, and with SluiceError where a path has a space.
"""
