"""What runs on Spark: the table job that writes the Delta tables from gateway.records, and SQL over them."""
