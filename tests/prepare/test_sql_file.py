"""Which columns of a SELECT depend on the order in which floats are added, and which SELECTs are refused."""

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.prepare import sql_file

TABLES = {
    "clicks": {"id": "BIGINT", "user": "BIGINT", "price": "DOUBLE", "cost": "DECIMAL(10,2)", "word": "VARCHAR"},
    "users": {"user": "BIGINT", "age": "FLOAT"},
}


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT id, price FROM clicks", set()),
        ("SELECT user, sum(price) AS total, count(*) AS n FROM clicks GROUP BY user", {"total"}),
        ("SELECT user, sum(cost) AS total, max(price) AS most FROM clicks GROUP BY user", set()),
        ("SELECT user, sum(price::DECIMAL(18,4)) AS total FROM clicks GROUP BY user", set()),
        ("SELECT user, avg(user) AS a, stddev(user) AS s FROM clicks GROUP BY user", {"s"}),
        ("WITH m AS (SELECT user, avg(price) AS p FROM clicks GROUP BY user) "
         "SELECT c.id, m.p * 2 AS twice, c.price FROM clicks c JOIN m USING (user)", {"twice"}),
        ("SELECT * FROM (SELECT user, sum(price) AS t, min(price) AS u FROM clicks GROUP BY 1)", {"t"}),
        ("SELECT id, sum(price) OVER (PARTITION BY user ORDER BY id) AS running FROM clicks", {"running"}),
        ("SELECT user, string_agg(word) AS words FROM clicks GROUP BY user", {"words"}),
        ("SELECT user, string_agg(word, ' ' ORDER BY id) AS words FROM clicks GROUP BY user", set()),
        ("SELECT user, list(word ORDER BY id) AS words, list(word) AS some FROM clicks GROUP BY user", {"some"}),
        ("SELECT id, price FROM clicks UNION ALL SELECT user, sum(price) FROM clicks GROUP BY user", {"price"}),
        ("SELECT id, (SELECT avg(age) FROM users) AS age FROM clicks", {"age"}),
        ("SELECT id, row_number() OVER (PARTITION BY user ORDER BY id) AS n FROM clicks", set()),
        ("SELECT id, rank() OVER (ORDER BY price) AS n FROM clicks", set()),
        ("SELECT user, any_value(word) AS w FROM clicks GROUP BY user", {"w"}),
        ("SELECT user, quantile_disc(price, 0.5) AS q, median(price) AS m FROM clicks GROUP BY user", set()),
    ],
)  # fmt: skip
def test_columns_that_may_differ_each_time(sql: str, columns: set[str]) -> None:
    assert sql_file.unreproducible(sql, TABLES, "x.sql") == columns


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT id, random() AS r FROM clicks", "RANDOM()"),
        ("SELECT id, now() FROM clicks", "same each time"),
        ("SELECT id, current_date AS d FROM clicks", "same each time"),
        ("SELECT id FROM clicks LIMIT 10", "LIMIT without ORDER BY"),
        ("SELECT id FROM clicks USING SAMPLE 10%", "same each time"),
        ("SELECT id, row_number() OVER () AS n FROM clicks", "ORDER BY in the window"),
        ("SELECT user FROM clicks GROUP BY user HAVING sum(price) > 3", "cast the values to DECIMAL"),
        ("WITH m AS (SELECT user, avg(price) AS p FROM clicks GROUP BY user) SELECT * FROM m WHERE p > 2", "DECIMAL"),
        ("SELECT 1; SELECT 2", "one SELECT statement"),
        ("DROP TABLE clicks", "one SELECT statement"),
        ("SELECT (", "not understood"),
        ("", "one SELECT statement"),
    ],
)
def test_rows_that_may_differ_each_time_are_refused(sql: str, words: str) -> None:
    with pytest.raises(ConfigError, match=r"x\.sql") as error:
        sql_file.unreproducible(sql, TABLES, "x.sql")
    assert words in str(error.value)
