-- Escalation.
--
-- Contacts after which borrowers call, by lender and hour: what a call centre can take is taken in the commit of the
-- intent.  A row is locked in the order of its key, behind the borrowers and before the volumes.
create table call_centre (
    lender text not null,
    hour timestamptz not null,
    n int not null,
    primary key (lender, hour)
) with (fillfactor = 50);
