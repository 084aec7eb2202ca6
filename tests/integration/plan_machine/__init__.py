"""The machine of `test_plan_machine`: facts, requests, two workers and the clock in any order, and what must hold."""
