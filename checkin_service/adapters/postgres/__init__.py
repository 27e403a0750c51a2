"""PostgreSQL, the only truth: the pool, the migrations, and SQL functions that take a connection."""
