"""PostgreSQL: the engine that everything runs on."""
