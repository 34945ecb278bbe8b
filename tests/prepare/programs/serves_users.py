"""Serves a table of so many users in MariaDB until it is terminated; prints its URL.

serves_users.py USERS
"""

import sys
import time

from tests.prepare import database_servers

PIECE = 2_000  # rows of an INSERT

with database_servers.mariadb() as server:
    server.run("use shop; create table users (user_id bigint primary key, age bigint, segment varchar(20))")
    rows = [f"({user},{user * 7 % 90},'s{user * 13 % 30}')" for user in range(int(sys.argv[1]))]
    for start in range(0, len(rows), PIECE):
        server.run("use shop; insert into users values " + ",".join(rows[start : start + PIECE]))
    print(server.url, flush=True)
    while True:
        time.sleep(1)
