-- The tables of the existing system after its six migrations, as they stand in a live file: what it looks at when it opens one.
-- Tests make its files from this.
CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL);
INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES
    (1, 'create inflight taskactivations', TRUE, x'0098ec0357575e700b4388a951736b9598d3379ab8cb1db8c6276e1a99f84ecb2243155f10bde700a546094bd15486cc', 1),
    (2, 'add delay', TRUE, x'03c22fde8411c57d97fc9d83e5b2245204fb55d3f7dd51f7b3f0c5f58d6433d9d7104789d4feb08b68fabee991264ce9', 1),
    (3, 'update activations table', TRUE, x'012fd5cab96406284d29966bab499fe89309d97d377a601ac00621eddac47b46702a964ef98c27d0842a373cf517cb76', 1),
    (4, 'add application', TRUE, x'f0546b1eaba8545eab2eb69f89bd48b873a983fb356792600a38ff70eac279afb4c242c9f78b4b444dd6ecabf8e75090', 1),
    (5, 'add bucket', TRUE, x'144e04dbb515d48f5a0c7dd9c6c8c4b2ce89edf0761f57a5c69f3a19a74978edf8bab83b680b434427d9b285c45c25d9', 1),
    (6, 'add claim expires at', TRUE, x'54c2f44fc6907f5f87684bc36b81553c6347837359523671c245a72f115acb37a6e0191ce68a8a8efdc488ffab592a25', 1);
CREATE TABLE inflight_taskactivations (id TEXT NOT NULL PRIMARY KEY, activation BLOB NOT NULL, partition INTEGER NOT NULL,
    offset INTEGER NOT NULL, added_at INTEGER NOT NULL, processing_attempts INTEGER NOT NULL, expires_at INTEGER,
    processing_deadline_duration INTEGER NOT NULL, processing_deadline INTEGER, status TEXT NOT NULL,
    at_most_once INTEGER NOT NULL DEFAULT 0, namespace TEXT, delay_until INTEGER,
    on_attempts_exceeded INTEGER NOT NULL DEFAULT 1, received_at INTEGER NOT NULL DEFAULT 0,
    taskname TEXT NOT NULL DEFAULT '', application TEXT NOT NULL DEFAULT '', bucket INTEGER NOT NULL DEFAULT 0,
    claim_expires_at INTEGER) STRICT;
CREATE INDEX idx_pending_activation ON inflight_taskactivations (status, added_at, namespace, id);
