-- Brakes: who froze and lifted what, what freezes hold and how it leaves, the volume of a slice.
--
-- Processes of the version before may still run beside this schema: they find and write freezes as they did, and what they
-- hold without a row in `frozen` gets one when its timer is looked at.

-- A freeze that is lifted ends then (`until`); its row stays, and is the slice's next freeze too.
alter table "freeze" add column lifted_at timestamptz, add column lifted_by text, add column lift_reason text;

-- Every freeze and unfreeze, whoever made it and with whatever program.
create table freeze_audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    act text not null constraint freeze_act_known check (act in ('freeze', 'unfreeze')),
    kind text not null,
    value text not null,
    author text not null,
    reason text not null,
    until timestamptz
);
create function audit_freeze() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        insert into freeze_audit (act, kind, value, author, reason)
        values ('unfreeze', old.kind, old.value, current_user, 'its row was deleted');
    elsif tg_op = 'UPDATE' and new.lifted_at is not null and new.lifted_at is distinct from old.lifted_at then
        insert into freeze_audit (act, kind, value, author, reason)
        values ('unfreeze', new.kind, new.value, coalesce(new.lifted_by, current_user), coalesce(new.lift_reason, 'by hand'));
    else
        insert into freeze_audit (act, kind, value, author, reason, until)
        values ('freeze', new.kind, new.value, new.author, new.reason, new.until);
    end if;
    return null;
end
$$;
create trigger audit_freeze after insert or update or delete on "freeze"
    for each row execute function audit_freeze();
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is insert-only', tg_table_name;
end
$$;
create trigger insert_only before update or delete or truncate on freeze_audit
    for each statement execute function refuse_change();
insert into freeze_audit (at, act, kind, value, author, reason, until)
    select created_at, 'freeze', kind, value, author, reason, until from "freeze" order by id;

-- What is held by a freeze, under the one that was found first, and when it was to go.  0 is none: it waits for its turn.
create table frozen (
    id bigint primary key,
    held_by bigint not null,
    lane lane not null,
    at timestamptz not null
);
create index frozen_turn on frozen (held_by, lane, at, id);
create type frozen_row as (id bigint, held_by bigint, lane lane, at timestamptz);

-- The timetable by which that leaves, one for all processes: its next free place.
create table release_pace (
    one boolean primary key default true constraint release_pace_is_one check (one),
    next_at timestamptz not null default '-infinity'
);
insert into release_pace default values;

-- What has been intended for a slice that has a quota, in the hour and the day it is in; `spent` in millionths.  `over`
-- are the quotas that have run out.
create table volume (
    kind text not null constraint volume_kind_known check (kind in ('source', 'lender')),
    value text not null,
    hour timestamptz not null,
    day timestamptz not null,
    hour_sent bigint not null default 0,
    day_sent bigint not null default 0,
    day_spent bigint not null default 0,
    over text[] not null default '{}',
    primary key (kind, value)
) with (fillfactor = 50);
