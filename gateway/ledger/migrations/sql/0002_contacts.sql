-- What borrowers say back: replies, wishes to be called, wishes to be left alone.
--
-- Processes of the version before may still run beside this schema: what they write fits, so the row types they use stay
-- as they are and new ones stand beside them.

-- Null for what is told on its topic as a rule: a status, or a dead letter.
alter table outbox add column type text;

-- The blind index of the address: who wrote back, and whether a receipt without a signature speaks of the right one.
alter table attempt add column address bytea;
create index attempt_address on attempt (address, id) where address is not null;
alter table receipt add column address bytea;

-- The words of a borrower, sealed under the receipt they came as.
create table reply (
    id bigint primary key,
    address bytea not null,
    sealed bytea not null
);
create index reply_address on reply (address, id);

alter table tombstone drop constraint tombstone_kind_known;
alter table tombstone add constraint tombstone_kind_known
    check (kind in ('request', 'debt', 'borrower', 'opted_out')) not valid;

create type intended_row as (
    reminder bigint, token bigint, attempt bigint, rung smallint, channel text, provider text, sealed bytea, inputs jsonb,
    address bytea
);
create type kept_row as (
    id bigint, replay bytea, provider text, attempt bigint, ref text, kind text, state attempt_state, failure text, code text,
    occurred_at timestamptz, received_at timestamptz, sealed bytea, sweep_at timestamptz, disposition text,
    address bytea, reply bytea
);
