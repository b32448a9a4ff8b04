-- Which farm this is, and how often its facts changed. The journal beside the blobs says the same, so that a catalog and
-- blobs that do not belong together are told apart. One row.
CREATE TABLE identity (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    farm     TEXT   NOT NULL,
    -- Counts the changes of facts, each of which is an entry of the journal.
    changes  BIGINT NOT NULL CHECK (changes >= 0),
    -- Which file of the journal the next entry goes into.
    segment  BIGINT NOT NULL CHECK (segment >= 1)
);
