-- Who has corrected a dead address is reminded by the new one, as long as that is good.
--
-- Processes of the version before may still run beside this schema: their statements name the columns and the type they
-- know, and leave `reach` empty or as it was.

-- A keyed hash of the contacts that a reminder was born to reach, or had before its first attempt.
alter table occurrence add column reach bytea;
create type occasion_row as (
    subject bytea, debt text, instalment int, stage text, step text, reminder bigint, print bytea, said bytea,
    reach bytea
);
