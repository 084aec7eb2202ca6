-- The trace a request came in, for the events that tell of it: null where it came in none.
--
-- Columns without a default: no row is written.  Each takes a lock that excludes everybody, for a moment.
--
-- Processes of the version before may still run beside this schema: what they write has no trace.
alter table reminder add column traceparent text;
alter table live add column traceparent text;
alter table outbox add column traceparent text;

create type born_row as (
    id bigint, subject bytea, source text, request_id text, lender text, borrower text, debt text, instalment int,
    product text, stage text, step text, stage_key bytea, template text, lane lane, ladder text, send_at timestamptz,
    not_after timestamptz, state_as_of timestamptz, topic text, partition int, "offset" bigint, sealed bytea,
    state reminder_state, reason text, at timestamptz, resume_at timestamptz, queue text, event bytea, traceparent text
);
