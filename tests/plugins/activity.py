"""What the daemons and commands under test run on a server just now."""


def running(words: str, columns: str = "1") -> str:
    """A query for the sessions of ours that run something with these words; a script shares its message.

    The words are looked for anywhere: what stands before a script in its message is sent along with it.
    """
    return (
        f"select {columns} from pg_stat_activity where state = 'active' "
        f"and application_name like 'rec%' and query ilike '%{words}%'"
    )
