-- What people do by hand: dead letters redriven, unknown attempts settled; and the ways to find what they look for.
--
-- Only new tables and indexes: processes of the version before go on as they were.

-- A letter that has left the dead, once: who sent it through intake again, and what it became.  Of a letter that was
-- refused again there is no row.
create table redrive (
    letter bigint primary key,
    at timestamptz not null,
    author text not null,
    outcome text not null constraint redrive_outcome_known check (outcome in ('accepted', 'duplicate', 'command')),
    reminder bigint,
    -- Whether it lifted the hold of the borrower it names.
    lifted boolean not null
);
create index redrive_reminder on redrive (reminder) where reminder is not null;

-- Letters that may hold somebody: a stop that could not be read, and what does not tell whose it is.
create index deadletter_may_hold on deadletter (id) where reason = 'unreadable_stop' or source is null;

-- An attempt of unknown outcome about which a person has found out: once, since it never becomes unknown again.
create table settlement (
    attempt bigint primary key,
    reminder bigint not null,
    at timestamptz not null,
    author text not null,
    reason text not null,
    was attempt_state not null,
    became attempt_state not null,
    reminder_was text not null,
    reminder_became text not null
);
create index settlement_reminder on settlement (reminder);

-- The oldest first, at a fixed cost.  Written for an unknown outcome only.
create index unsettled_since on unsettled (since, id);

-- What hands have done to reminders, for the sums: no process has counted it.  `term` is `born`, or the final state of
-- which there are so many more.
create table manual_count (
    term text primary key,
    n bigint not null
) with (fillfactor = 50);

-- Everything about one borrower.  It is built while writers wait; where the table is large, build it on each partition
-- beforehand (create index concurrently on reminder_... (subject, id)): those are then taken over as they are.
create index reminder_subject on reminder (subject, id);
