-- Run once by the server's administrator: psql --set=owner=… --set=service=… --set=auditor=… --file=main.sql (passwords).
CREATE ROLE checkin_owner LOGIN PASSWORD :'owner';
CREATE ROLE checkin_service LOGIN PASSWORD :'service';
CREATE ROLE checkin_auditor LOGIN PASSWORD :'auditor';
CREATE DATABASE checkin OWNER checkin_owner;
REVOKE CONNECT, TEMPORARY ON DATABASE checkin FROM PUBLIC;
GRANT CONNECT ON DATABASE checkin TO checkin_service, checkin_auditor;
