create type lane as enum ('urgent', 'bulk');

create type reminder_state as enum (
    'scheduled', 'held', 'sending', 'awaiting',
    'delivered', 'undelivered', 'unconfirmed', 'suppressed', 'cancelled', 'expired'
);

create type attempt_state as enum (
    'intended', 'not_sent', 'unknown', 'rejected', 'accepted', 'sent',
    'answered', 'answered_human', 'answered_machine', 'delivered',
    'undelivered', 'ttl_expired', 'no_answer', 'busy', 'declined', 'unconfirmed'
);

-- The same tables as gateway/ledger/states.py; a test compares them pair by pair.
create function attempt_rank(s attempt_state) returns int language sql immutable parallel safe as $$
    select case s
        when 'intended' then 0 when 'unknown' then 1 when 'accepted' then 2 when 'sent' then 3
        when 'unconfirmed' then 4
        when 'undelivered' then 5 when 'ttl_expired' then 5 when 'no_answer' then 5 when 'busy' then 5 when 'declined' then 5
        when 'answered' then 6
        when 'delivered' then 7 when 'answered_human' then 7 when 'answered_machine' then 7
        else 9 end
$$;

create function attempt_moves(was attempt_state, becomes attempt_state) returns boolean language sql immutable parallel safe as $$
    select case when becomes in ('not_sent', 'rejected') then was in ('intended', 'unknown')
                else attempt_rank(becomes) > attempt_rank(was) end
$$;

create function reminder_moves(was reminder_state, becomes reminder_state) returns boolean language sql immutable parallel safe as $$
    select case was
        when 'scheduled' then true
        when 'held' then becomes <> 'sending'
        when 'sending' then becomes not in ('unconfirmed', 'expired')
        when 'awaiting' then becomes not in ('sending', 'expired')
        when 'unconfirmed' then becomes in ('undelivered', 'delivered')
        when 'undelivered' then becomes = 'delivered'
        when 'expired' then becomes = 'delivered'
        else false end
$$;

-- The numbers that go into ids.  The one that was leased longest ago is leased next, so that no clock that is a little
-- off makes an id again that its last owner made.
create table worker_number (
    number smallint primary key,
    leased_at timestamptz not null default '-infinity'
) with (fillfactor = 50);
insert into worker_number (number) select generate_series(0, 63);

-- One row per running process.  A lease that ended is never revived: its owner registers anew.
create table worker (
    id bigint generated always as identity primary key,
    number smallint not null constraint worker_number_unique unique references worker_number,
    relays boolean not null,
    lease_until timestamptz not null,
    started_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

create table intake_offset (
    topic text not null,
    partition int not null,
    first bigint not null,
    next bigint not null,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (topic, partition)
) with (fillfactor = 50);

create table "freeze" (
    id bigint generated always as identity primary key,
    kind text not null constraint freeze_kind_known
        check (kind in ('all', 'source', 'lender', 'product', 'stage', 'channel', 'provider', 'template')),
    value text not null,
    reason text not null,
    author text not null,
    created_at timestamptz not null,
    until timestamptz,
    constraint freeze_once unique (kind, value)
);

-- One row per (lender, borrower): the lock behind every move, and the place of a stop we could not read.
create table subject (
    key bytea primary key,
    lender text not null,
    borrower text not null,
    unreadable_stop_at timestamptz
) with (fillfactor = 90);
-- Few, so counting them is cheap.
create index subject_held on subject (key) where unreadable_stop_at is not null;

create table tombstone (
    subject bytea not null,
    kind text not null constraint tombstone_kind_known check (kind in ('request', 'debt', 'borrower')),
    value text not null,
    as_of timestamptz not null,
    primary key (subject, kind, value)
);

create table inbox (
    key bytea primary key,
    hash bytea not null,
    reminder bigint not null
);

create table stage_key (
    key bytea primary key,
    reminder bigint not null
);

-- Facts and sealed data.  Insert-only; ids are time-ordered, so a range of ids is a week.
create table reminder (
    id bigint primary key,
    subject bytea not null,
    source text not null,
    request_id text not null,
    lender text not null,
    borrower text not null,
    debt text not null,
    instalment int,
    product text,
    stage text not null,
    step text not null,
    stage_key bytea not null,
    template text not null,
    lane lane not null,
    ladder text not null,
    send_at timestamptz not null,
    not_after timestamptz not null,
    state_as_of timestamptz not null,
    received_at timestamptz not null,
    topic text not null,
    partition int not null,
    "offset" bigint not null,
    sealed bytea not null
) partition by range (id);

-- What can still move, with what its events say of it: no move reads `reminder`.  `at` is the time its one queue row
-- stands at, `resume_at` the time at which a held one was to go.  No index on a column that changes: updates are HOT.
create table live (
    id bigint primary key,
    subject bytea not null,
    lender text not null,
    source text not null,
    request_id text not null,
    stage text not null,
    lane lane not null,
    ladder text not null,
    not_after timestamptz not null,
    state reminder_state not null constraint live_is_not_final check (state in ('scheduled', 'held', 'sending', 'awaiting')),
    reason text,
    seq int not null,
    rung smallint not null default 0,
    tries smallint not null default 0,
    rescues smallint not null default 0,
    attempts smallint not null default 0,
    attempt bigint,
    token bigint,
    closed text,
    at timestamptz not null,
    resume_at timestamptz
) with (fillfactor = 70);
create index live_subject on live (subject);

create table ending (
    reminder bigint primary key,
    state reminder_state not null constraint ending_is_final
        check (state in ('delivered', 'undelivered', 'unconfirmed', 'suppressed', 'cancelled', 'expired')),
    reason text,
    seq int not null,
    at timestamptz not null
) with (fillfactor = 90);

-- Every live reminder has exactly one row in due, claim or timer.
create table due (
    lane lane not null,
    due_at timestamptz not null,
    id bigint not null,
    primary key (lane, due_at, id)
);
create table claim (
    id bigint primary key,
    worker bigint not null,
    lane lane not null,
    due_at timestamptz not null,
    token bigint not null
);
create table timer (
    at timestamptz not null,
    id bigint not null,
    primary key (at, id)
);

-- Reminders that wait on an attempt of unknown outcome: few, so counting them is cheap.
create table unsettled (
    id bigint primary key,
    since timestamptz not null
);

create table attempt (
    id bigint primary key,
    reminder bigint not null,
    subject bytea not null,
    rung smallint not null,
    channel text not null,
    provider text not null,
    state attempt_state not null,
    failure text,
    code text,
    intended_at timestamptz not null,
    outcome_at timestamptz,
    final_at timestamptz
) with (fillfactor = 70);
create index attempt_reminder on attempt (reminder);

create table provider_ref (
    provider text not null,
    ref text not null,
    attempt bigint not null,
    primary key (provider, ref)
);

-- Every verdict, send or not: the evidence.  Of a send also the exact words, sealed under the attempt's id.
create table decision (
    reminder bigint not null,
    attempt bigint,
    at timestamptz not null,
    verdict text not null,
    rule text not null,
    inputs jsonb not null,
    sealed bytea
);
create index decision_reminder on decision (reminder);

-- One row per event of a callback.  `replay` is a keyed hash of what its authenticity covers, null where the provider
-- gives nothing to build one from; `sealed` are the raw bytes, with the first event.
create table receipt (
    id bigint primary key,
    replay bytea constraint receipt_once unique,
    provider text not null,
    attempt bigint,
    ref text,
    kind text not null,
    state attempt_state,
    failure text,
    code text not null,
    occurred_at timestamptz,
    received_at timestamptz not null,
    disposition text,
    sealed bytea
) with (fillfactor = 80);
create index receipt_attempt on receipt (attempt) where attempt is not null;

-- Receipts not settled yet: what they belong to was locked too long, or is not known (yet).
create table parked (
    sweep_at timestamptz not null,
    receipt bigint not null,
    primary key (sweep_at, receipt)
);

create table engagement (
    id bigint primary key,
    attempt bigint not null,
    kind text not null,
    occurred_at timestamptz,
    constraint engagement_once unique (attempt, kind)
);

create table outbox (
    bucket smallint not null,
    reminder bigint not null,
    seq int not null,
    id bigint not null,
    topic text not null,
    payload bytea not null,
    at timestamptz not null default transaction_timestamp(),
    primary key (bucket, reminder, seq, id)
);
create table relay_shard (
    shard smallint primary key,
    owner bigint,
    lease_until timestamptz not null default '-infinity'
) with (fillfactor = 50);
insert into relay_shard (shard) select generate_series(0, 15);

-- `hash` is a keyed hash of the record: a topic made anew has other records at the same offsets.
create table deadletter (
    id bigint primary key,
    reason text not null,
    field text,
    source text,
    topic text not null,
    partition int not null,
    "offset" bigint not null,
    hash bytea not null,
    at timestamptz not null,
    sealed bytea not null,
    constraint deadletter_once unique (topic, partition, "offset", hash)
);

-- What intake has read, by what became of it: the SQL side of the conservation sums.
create table intake_count (
    topic text not null,
    partition int not null,
    outcome text not null,
    n bigint not null,
    primary key (topic, partition, outcome)
) with (fillfactor = 50);

-- Dead letters and records per source since the window began, for the per-source freeze.
create table source_health (
    source text primary key,
    since timestamptz not null,
    records bigint not null,
    deadletters bigint not null
) with (fillfactor = 50);

-- Rows that statements take as one array parameter: a composite costs client and server half of what parallel arrays do.
create type intent_row as (
    reminder bigint, token bigint, attempt bigint, rung smallint, channel text, provider text, sealed bytea, inputs jsonb
);
create type birth_row as (
    id bigint, subject bytea, source text, request_id text, lender text, borrower text, debt text, instalment int,
    product text, stage text, step text, stage_key bytea, template text, lane lane, ladder text, send_at timestamptz,
    not_after timestamptz, state_as_of timestamptz, topic text, partition int, "offset" bigint, sealed bytea,
    state reminder_state, reason text, at timestamptz, resume_at timestamptz, queue text, event bytea
);
create type advance_row as (
    id bigint, seq int, was reminder_state, state reminder_state, reason text, was_at timestamptz, at timestamptz,
    leaves text, enters text, rung smallint, tries smallint, rescues smallint, closed text, resume_at timestamptz,
    event bytea, lane lane
);
create type end_row as (
    id bigint, seq int, was reminder_state, state reminder_state, reason text, was_at timestamptz, at timestamptz,
    leaves text, event bytea, lane lane
);
create type attempt_row as (
    id bigint, state attempt_state, failure text, code text, at timestamptz, settled boolean
);
create type receipt_row as (
    id bigint, replay bytea, provider text, attempt bigint, ref text, kind text, state attempt_state, failure text, code text,
    occurred_at timestamptz, received_at timestamptz, sealed bytea, sweep_at timestamptz, disposition text
);
create type disposed_row as (
    id bigint, disposition text, attempt bigint, swept timestamptz, again timestamptz
);
create type outbox_row as (bucket smallint, reminder bigint, seq int, id bigint);
