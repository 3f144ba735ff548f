"""Addresses of databases, as SQLAlchemy parses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydratune.utils.provenance import redact

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

BACKENDS = ("mssql", "mysql", "postgresql")
_PASSWORDS = frozenset(("passwd", "password", "pwd", "ssl_key_password", "sslpassword"))
# Other parameters of libpq, psycopg, MySQL's drivers, pyodbc, and pymssql, in lower case. A name that is not here may
# be a piece of a password with an unencoded `&`, and would be recorded. Names whose values are secrets, or addresses in
# another syntax such as `odbc_connect`, are not here either.
_PARAMETERS = frozenset(
    """
        app application_name applicationintent appname as_dict auth_plugin authentication autocommit autotranslate
        bind_address buffered channel_binding charset client_encoding client_flag collation columnencryption compress
        connect_timeout connection_timeout connectretrycount connectretryinterval consume_results database db dbname
        driver encrypt encryption failover_partner fallback_application_name gssdelegation gssencmode gsslib host
        hostaddr hostnameincertificate init_command keepalives keepalives_count keepalives_idle keepalives_interval
        krbsrvname language load_balance_hosts local_infile login_timeout mars_connection max_allowed_packet
        multisubnetfailover named_pipe option_files option_groups options packet_size passfile port prepare_threshold
        program_name protocol raise_on_warnings read_default_file read_default_group read_timeout replication
        require_auth requirepeer requiressl scope server serverspn service servicefile sql_mode ssl ssl_ca ssl_capath
        ssl_cert ssl_check_hostname ssl_cipher ssl_disabled ssl_key ssl_max_protocol_version ssl_min_protocol_version
        ssl_mode ssl_verify_cert ssl_verify_identity sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey sslmode
        sslnegotiation sslrootcert sslsni target_session_attrs tcp_user_timeout tds_version timeout tls_ciphersuites
        tls_versions trusted_connection trustservercertificate unix_socket use_pure use_unicode user write_timeout wsid
        """.split()  # noqa: SIM905 (a hundred lines with one name each)
)


def server(uri: str) -> str | None:
    """Return the address of a database without user, passwords, and name; None if drivers may read it differently."""
    if (url := _parsed(uri)) is None or has_unknown_parameters(uri):
        return None
    # Parameters can name another host, or a file with one. Passwords are left out, since the result is recorded. Other
    # parameters may not hold a secret: `host=TOKEN.evil.example` would send it.
    parameters = _other_parameters(url)
    texts = (str(url.host), *(f"?{name}={value}" for name, value in parameters.items()))
    if any(redact(text) != text for text in texts):
        return None
    address = url.set(drivername=url.get_backend_name(), query=parameters)
    return address._replace(username=None, password=None, database=None).render_as_string()


def has_unknown_parameters(uri: str) -> bool:
    """Return whether an address has a parameter that no database driver has."""
    url = _parsed(uri)
    return url is not None and any(name.lower() not in _PASSWORDS | _PARAMETERS for name in url.query)


def without_password(uri: str) -> str | None:
    """Return an address without its passwords; None if it cannot be read."""
    if (url := _parsed(uri)) is None:
        return None
    return url._replace(password=None).set(query=_other_parameters(url)).render_as_string()


def _parsed(uri: str) -> URL | None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(uri.strip())
    except (ArgumentError, ValueError):
        return None


def _other_parameters(url: URL) -> dict[str, Any]:
    return {name: value for name, value in url.query.items() if name.lower() not in _PASSWORDS}
