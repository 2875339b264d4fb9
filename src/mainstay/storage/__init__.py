"""The only code that knows a driver: one package per engine, one module per protocol of a room."""
