-- name: create_database
-- Makes an empty database on the embedded server.
create database {name};

-- name: copy_database
-- Makes a database that starts as a copy of another one, to which nobody may be connected.
create database {name} template {template};

-- name: drop_database
-- Removes a database together with the connections to it.
drop database if exists {name} with (force);
