"""Pure decisions: no Faust, no HTTP, no Kafka connection, no clock. Time and state come in as arguments."""
