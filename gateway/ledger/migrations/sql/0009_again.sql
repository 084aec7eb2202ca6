-- Plans that outlive the files and processes they were made by.
--
-- Processes of the version before may still run beside this schema: they write versions without what those say, which
-- the next start of a process of this version adds.

-- What a version says, as JSON: whoever was not given its file goes on with its plans all the same.
alter table cadence_in_use add column says bytea;

-- Reminders that have freed their business key by reaching nobody, while a plan wants a contact under it: that borrower
-- is planned anew.
create table replan (
    reminder bigint primary key,
    subject bytea not null
) with (fillfactor = 50);
