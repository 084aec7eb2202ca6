-- Plans: what is known of borrowers and debts, and which reminder stands for which occasion of an instalment.
--
-- New tables and types, and more kinds of tombstones: processes of the version before go on as they were.

-- What facts have told, sealed under the row's own id.  One row per borrower of a lender, one per debt.
create table borrower_fact (
    subject bytea primary key,
    id bigint not null constraint borrower_fact_id unique,
    sealed bytea not null
) with (fillfactor = 70);

-- `cadence` and `version` are those the plan was made with; null while nothing has been planned.
create table debt_fact (
    subject bytea not null,
    debt text not null,
    id bigint not null constraint debt_fact_id unique,
    cadence text,
    version int,
    sealed bytea not null,
    primary key (subject, debt)
) with (fillfactor = 70);

-- `print` is a keyed hash of when and how it goes out, `said` one of what it says.
create table occurrence (
    subject bytea not null,
    debt text not null,
    instalment int not null,
    stage text not null,
    step text not null,
    reminder bigint not null,
    print bytea not null,
    said bytea not null,
    primary key (subject, debt, instalment, stage, step)
) with (fillfactor = 80);

-- What a planned reminder says since its facts have changed, sealed as its first facts are: `reminder` is insert-only.
create table revision (
    reminder bigint primary key,
    sealed bytea not null
) with (fillfactor = 80);

-- Versions of cadences that plans were made with: a process that does not have one of them does not start.
create table cadence_in_use (
    cadence text not null,
    version int not null,
    primary key (cadence, version)
);

-- Reminders that plans have made, by where the fact stood that made them: the SQL side of the conservation sums.
create table planned_count (
    topic text not null,
    partition int not null,
    n bigint not null,
    primary key (topic, partition)
) with (fillfactor = 50);

create type occurrence_row as (
    subject bytea, debt text, instalment int, stage text, step text, reminder bigint, print bytea, said bytea
);
create type debt_fact_row as (subject bytea, debt text, id bigint, cadence text, version int, sealed bytea);

-- Stops that facts tell, for reminders that were requested.  Processes of the version before take `paid` and `stopped` of
-- a debt for a cancel of it, by its as_of; a stop of the whole borrower and one channel they do not know.
alter table tombstone drop constraint tombstone_kind_known;
alter table tombstone add constraint tombstone_kind_known
    check (kind in ('request', 'debt', 'borrower', 'opted_out', 'channel_out', 'paid', 'stopped', 'opted_in')) not valid;

-- Payments of single instalments: of their own, so that who has paid many is not asked about all of them.
create table paid_instalment (
    subject bytea not null,
    debt text not null,
    instalment int not null,
    as_of timestamptz not null,
    primary key (subject, debt, instalment)
);
