"""A real broker and one real Spark for all tests of the table job.

broker     an embedded Kafka for the whole session
spark      the one session; its warehouse is the folder that the tests' jobs share, so that names work in queries
place      a warehouse of a test's own below it is not possible (one process, one warehouse): use catalogs of your own, see `catalog`
"""
