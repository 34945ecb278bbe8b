"""Serves a table of so many users in MariaDB until it is terminated; prints its URL.

serves_users.py USERS
"""

import sys
import time

from tests.prepare import clicks_job, database_servers

with database_servers.mariadb() as server:
    for statement in clicks_job.statements(int(sys.argv[1])):
        server.run(statement)
    print(server.url, flush=True)
    while True:
        time.sleep(1)
