"""What must outlive a run, in a folder or in a database: creation times, live starts, tokens, leases, budgets."""
