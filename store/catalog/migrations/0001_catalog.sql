-- What exists and what points at what. Times are unix seconds; digests are `algorithm:hex`; no statement here or
-- in the code needs more than what SQLite and PostgreSQL share.

CREATE TABLE repositories (
    name    TEXT   NOT NULL PRIMARY KEY,
    created BIGINT NOT NULL
);

-- Bytes that the blob store holds: layers, configurations and manifests alike.
CREATE TABLE blobs (
    digest     TEXT   NOT NULL PRIMARY KEY,
    size       BIGINT NOT NULL CHECK (size >= 0),
    media_type TEXT,
    created    BIGINT NOT NULL
);

-- A blob is served from a repository only if it is a member of it.
CREATE TABLE repository_blobs (
    repository TEXT   NOT NULL REFERENCES repositories (name),
    digest     TEXT   NOT NULL REFERENCES blobs (digest),
    created    BIGINT NOT NULL,
    PRIMARY KEY (repository, digest)
);
CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest);

-- By repository, because the sender decides the media type where the document does not say one.
CREATE TABLE manifests (
    repository        TEXT   NOT NULL REFERENCES repositories (name),
    digest            TEXT   NOT NULL REFERENCES blobs (digest),
    media_type        TEXT   NOT NULL,
    size              BIGINT NOT NULL CHECK (size >= 0),
    subject           TEXT,
    artifact_type     TEXT,
    config_media_type TEXT,
    annotations       TEXT   NOT NULL,
    created           BIGINT NOT NULL,
    PRIMARY KEY (repository, digest)
);
CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest);
CREATE INDEX manifests_by_digest ON manifests (digest);

-- No foreign key on the child: a subject need not exist, and content with urls need not be here.
CREATE TABLE edges (
    repository TEXT NOT NULL,
    manifest   TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('config', 'layer', 'manifest', 'subject')),
    child      TEXT NOT NULL,
    PRIMARY KEY (repository, manifest, kind, child),
    FOREIGN KEY (repository, manifest) REFERENCES manifests (repository, digest) ON DELETE CASCADE
);
CREATE INDEX edges_by_child ON edges (child, repository);

CREATE TABLE tags (
    repository TEXT   NOT NULL,
    tag        TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    moved      BIGINT NOT NULL,
    PRIMARY KEY (repository, tag),
    FOREIGN KEY (repository, digest) REFERENCES manifests (repository, digest)
);
CREATE INDEX tags_by_digest ON tags (repository, digest);

-- Append only. No foreign keys: a tag's past outlives what it pointed at. Without a digest: the tag was deleted.
CREATE TABLE tag_history (
    repository TEXT   NOT NULL,
    tag        TEXT   NOT NULL,
    seq        BIGINT NOT NULL,
    digest     TEXT,
    at         BIGINT NOT NULL,
    PRIMARY KEY (repository, tag, seq)
);

-- Push sessions; their bytes are files of the blob store.
CREATE TABLE uploads (
    id         TEXT   NOT NULL PRIMARY KEY,
    repository TEXT   NOT NULL,
    started    BIGINT NOT NULL
);
CREATE INDEX uploads_by_start ON uploads (started);

-- The build cache: a finished plan is never run again.
CREATE TABLE builds (
    plan     TEXT   NOT NULL PRIMARY KEY,
    result   TEXT   NOT NULL,
    started  BIGINT NOT NULL,
    finished BIGINT NOT NULL
);

-- Append only: "this name was these bytes, first seen then".
CREATE TABLE mirrored (
    kind       TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    seq        BIGINT NOT NULL,
    digest     TEXT   NOT NULL,
    size       BIGINT NOT NULL CHECK (size >= 0),
    first_seen BIGINT NOT NULL,
    PRIMARY KEY (kind, name, seq)
);
CREATE INDEX mirrored_by_digest ON mirrored (digest);
