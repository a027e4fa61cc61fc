"""The state store (SPEC 18): a spool that survives the death of the process, and the database that it is drained into.

`store.open_store` is the way in for the bot, `repository.Repository` for everything that only reads.
"""
