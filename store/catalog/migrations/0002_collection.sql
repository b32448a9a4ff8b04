-- What collection, retention and scrubbing have to know.

-- When it was last pulled, to the hour.
ALTER TABLE manifests ADD COLUMN pulled BIGINT;
-- When a tag last went away from it: what loses its last tag has the grace period before it.
ALTER TABLE manifests ADD COLUMN untagged BIGINT;

-- Since when its file is known to be damaged or gone. It is not served, and not built upon, until it is pushed again.
ALTER TABLE blobs ADD COLUMN damaged BIGINT;

-- A push in progress holds back the clock of its repository.
CREATE INDEX uploads_by_repository ON uploads (repository, started);

-- Blobs whose row is gone and whose file is to be removed: whoever is killed between the two is continued from here.
CREATE TABLE doomed (
    digest TEXT NOT NULL PRIMARY KEY
);

-- Where work that takes longer than a process lives goes on.
CREATE TABLE positions (
    work  TEXT NOT NULL PRIMARY KEY,
    place TEXT NOT NULL
);

-- With all that is asked of it, or SQLite would rather walk through all edges of a repository in the primary key.
DROP INDEX edges_by_child;
CREATE INDEX edges_by_child ON edges (repository, child, kind, manifest);
