-- Which upstreams sent these very bytes, by address. One that did has told nobody anything new when it says that another of
-- its repositories holds them; one that did not has to send them first.
CREATE TABLE received (
    digest   TEXT NOT NULL REFERENCES blobs (digest) ON DELETE CASCADE,
    upstream TEXT NOT NULL,
    PRIMARY KEY (digest, upstream)
);
