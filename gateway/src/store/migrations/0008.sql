-- Schema 8: experiments that are defined elsewhere than in the file.
-- JSON, on the revisions from which on it is what the experiment is; 'null': what the file says.
ALTER TABLE revisions ADD COLUMN definition TEXT;
-- All that the file said, as JSON; NULL: not known.
ALTER TABLE file_statements ADD COLUMN definition TEXT;
