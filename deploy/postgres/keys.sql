-- The key store's server, run once in the same way: psql --set=owner=… --set=service=… --file=keys.sql
CREATE ROLE checkin_owner LOGIN PASSWORD :'owner';
CREATE ROLE checkin_service LOGIN PASSWORD :'service';
CREATE DATABASE checkin_keys OWNER checkin_owner;
REVOKE CONNECT, TEMPORARY ON DATABASE checkin_keys FROM PUBLIC;
GRANT CONNECT ON DATABASE checkin_keys TO checkin_service;
