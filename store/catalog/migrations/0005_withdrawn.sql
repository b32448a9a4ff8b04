-- A name that stands for nothing any more, until it is said anew. Its digest is what it stood for.
ALTER TABLE mirrored ADD COLUMN withdrawn BIGINT NOT NULL DEFAULT 0 CHECK (withdrawn IN (0, 1));
-- Until now that was said by the digest of no bytes.
UPDATE mirrored SET withdrawn = 1
WHERE kind IN ('git-tag-accepted', 'git-tag-taken-unsigned')
AND digest = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
