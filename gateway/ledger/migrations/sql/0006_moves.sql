-- The trace of a reminder comes with its move, whose situation has read it: taken from the row that moves, every event
-- would go through that statement's result.
--
-- Only new types: processes of the version before go on with theirs.
create type advanced_row as (
    id bigint, seq int, was reminder_state, state reminder_state, reason text, was_at timestamptz, at timestamptz,
    leaves text, enters text, rung smallint, tries smallint, rescues smallint, closed text, resume_at timestamptz,
    event bytea, lane lane, traceparent text
);
create type ended_row as (
    id bigint, seq int, was reminder_state, state reminder_state, reason text, was_at timestamptz, at timestamptz,
    leaves text, event bytea, lane lane, traceparent text
);
