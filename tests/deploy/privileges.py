"""What the catalog says that each role may do, in the words of deploy/grants.py."""

from typing import Any, NamedTuple

import psycopg

from deploy.grants import FUNCTIONS, TABLES, VERBS
from deploy.services import ROLES, SCHEMAS


class Privilege(NamedTuple):
    """`verb` on `thing` in a schema; of whom `role` says, or everybody ("PUBLIC")."""

    schema: str
    thing: str
    role: str
    verb: str


NAMES = {role.service: role.name for role in ROLES}

# Whatever an access list says, by any way: of tables and their columns, sequences, functions and schemas. What the
# owner may do with what he owns is left out.
_GRANTED = """
    WITH ours AS (SELECT oid, nspname, nspowner, nspacl FROM pg_namespace WHERE nspname = ANY(%(schemas)s)),
    listed (schema, thing, owner, acl) AS (
        SELECT nspname, relname, relowner, coalesce(relacl, acldefault(
                   CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
        FROM pg_class JOIN ours ON relnamespace = ours.oid WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        UNION ALL
        SELECT nspname, relname || '.' || attname, relowner, attacl
        FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid JOIN ours ON relnamespace = ours.oid
        WHERE attacl IS NOT NULL
        UNION ALL
        SELECT nspname, proname || '()', proowner, coalesce(proacl, acldefault('f', proowner))
        FROM pg_proc JOIN ours ON pronamespace = ours.oid
        UNION ALL
        SELECT nspname, '', nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM ours
    )
    SELECT schema, thing, coalesce(rolname, 'PUBLIC'), privilege_type
    FROM listed, aclexplode(acl) LEFT JOIN pg_roles ON grantee = pg_roles.oid
    WHERE grantee <> owner
"""


def written() -> set[Privilege]:
    """What the table of grants says."""
    tables = {
        Privilege(schema, table, NAMES[service], VERBS[letter])
        for schema, grants in TABLES.items()
        for table, by_service in grants.items()
        for service, letters in by_service.items()
        for letter in letters
    }
    functions = {
        Privilege(schema, f"{function}()", NAMES[service], "EXECUTE")
        for schema, grants in FUNCTIONS.items()
        for function, services in grants.items()
        for service in services
    }
    schemas = {Privilege(schema, "", role.name, "USAGE") for role in ROLES for schema in role.schemas}
    return tables | functions | schemas


async def granted(url: str) -> set[Privilege]:
    """What the catalog of the database says."""
    async with await psycopg.AsyncConnection[Any].connect(url) as conn:
        cursor = await conn.execute(_GRANTED, {"schemas": list(SCHEMAS)})
        return {Privilege(*row) for row in await cursor.fetchall()}
