-- Plans: what is known of borrowers and debts, and which reminder stands for which occasion of an instalment.
--
-- Processes of the version before may still run beside this schema: what they write fits, so the row types they use stay
-- as they are and new ones stand beside them.

-- Which occasion of which version of a cadence a reminder stands for, `default/1/d7`; null for what upstream asked for.
alter table reminder add column occasion text;
alter table live add column occasion text;
create type planned_row as (
    id bigint, subject bytea, source text, request_id text, lender text, borrower text, debt text, instalment int,
    product text, stage text, step text, stage_key bytea, template text, lane lane, ladder text, send_at timestamptz,
    not_after timestamptz, state_as_of timestamptz, topic text, partition int, "offset" bigint, sealed bytea,
    state reminder_state, reason text, at timestamptz, resume_at timestamptz, queue text, event bytea, traceparent text,
    occasion text
);

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

-- What is due for a borrower on one day is one message: who is told of in whose.  `along` when its amount stands there,
-- else its instalment is told of already.
create table merged (
    reminder bigint primary key,
    leader bigint not null,
    along boolean not null
) with (fillfactor = 80);
create index merged_leader on merged (leader);

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

-- Freshness.  Of each debt and borrower where the last event stood, and as of when it was so; never in the future.
alter table borrower_fact add column source text, add column topic text, add column partition int,
    add column told_at timestamptz;
alter table debt_fact add column source text, add column topic text, add column partition int,
    add column told_at timestamptz;
create type told_row as (
    subject bytea, debt text, source text, topic text, partition int, told_at timestamptz
);

-- Up to when a source has told everything in a partition, by its own records and heartbeats.  Who `beats` may be missed.
create table fact_watermark (
    topic text not null,
    source text not null,
    partition int not null,
    as_of timestamptz not null,
    beats boolean not null,
    primary key (topic, source, partition)
) with (fillfactor = 50);

-- What is held for stale facts, under each place whose watermark would make them fresh again: it may be released once
-- that is younger than `max_age`.  `at` is when it was to go.
create table stale (
    id bigint not null,
    topic text not null,
    source text not null,
    partition int not null,
    max_age interval not null,
    lane lane not null,
    at timestamptz not null,
    primary key (id, topic, source, partition)
);
create index stale_turn on stale (topic, source, partition, max_age, lane, at, id);
create type stale_row as (
    id bigint, topic text, source text, partition int, max_age interval, lane lane, at timestamptz
);

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
