import java.sql.Connection;
import java.sql.SQLException;
import java.util.UUID;
import javax.sql.DataSource;

/** A service in Java that writes its events with JDBC, each in the transaction that it is about. */
public final class Orders {
    public record Order(String id, String customer, int units) {
        String key() {
            return "customer/" + customer;
        }
    }

    public interface Work {
        void in(Connection connection) throws SQLException;
    }

    /** Commits, or rolls back if anything throws. */
    static void transaction(DataSource database, Work work) throws SQLException {
        try (var connection = database.getConnection()) {
            connection.setAutoCommit(false);
            try {
                work.in(connection);
                connection.commit();
            } catch (SQLException | RuntimeException refusal) {
                try {
                    connection.rollback();
                } catch (SQLException broken) {
                    refusal.addSuppressed(broken);
                }
                throw refusal;
            }
        }
    }

    static void run(Connection connection, String sql, Object... parameters) throws SQLException {
        try (var statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < parameters.length; i++) {
                statement.setObject(i + 1, parameters[i]);
            }
            statement.execute();
        }
    }

    static void placeOrder(DataSource database, Order order) throws SQLException {
        transaction(database, connection -> {
            run(connection, "INSERT INTO orders (id, customer, units) VALUES (?, ?, ?)",
                order.id(), order.customer(), order.units());
            // The payload is text that your JSON library made; or let the server make it, as here.
            run(connection, "SELECT outbox.write(?, ?, json_build_object('id', ?, 'units', ?))",
                order.key(), "order.placed", order.id(), order.units());
        });
    }

    /** Somebody else wrote to the key since it was read: read it again and decide again. */
    public static final class Conflict extends Exception {
        Conflict(SQLException refusal) {
            super(refusal);
        }
    }

    static long sequenceOf(DataSource database, String key) throws SQLException {
        try (var connection = database.getConnection();
                var statement = connection.prepareStatement("SELECT sequence FROM outbox.heads WHERE key = ?")) {
            statement.setString(1, key);
            try (var rows = statement.executeQuery()) {
                return rows.next() ? rows.getLong(1) : 0;
            }
        }
    }

    static void closeAccount(DataSource database, String customer, long sequenceWhenRead) throws SQLException, Conflict {
        try {
            transaction(database, connection -> {
                run(connection, "UPDATE customers SET is_open = false WHERE id = ?", customer);
                run(connection, "SELECT outbox.write(?, ?, expected => ?)",
                    "customer/" + customer, "account.closed", sequenceWhenRead);
            });
        } catch (SQLException refusal) {
            if ("OX001".equals(refusal.getSQLState())) {
                throw new Conflict(refusal);
            }
            throw refusal;
        }
    }

    /** The change and all its events in one statement; they could as well be two, the second with JSON as text. */
    static void ship(DataSource database, String... orders) throws SQLException {
        transaction(database, connection -> run(connection, """
            WITH shipped AS (
                UPDATE orders SET status = 'shipped' WHERE id = ANY (?) RETURNING id, customer
            )
            SELECT outbox.write_all(coalesce(json_agg(json_build_object(
                'key', 'customer/' || customer, 'type', 'order.shipped', 'data', json_build_object('id', id)
            ) ORDER BY id), '[]'))
            FROM shipped
            """, (Object) orders));
    }

    /** Purged since, so nobody can tell whether an earlier attempt was committed: look for what it changed. */
    public static final class Unknown extends Exception {
        Unknown(SQLException refusal) {
            super(refusal);
        }
    }

    /** Also where the answer to a COMMIT is lost. The same commit id, the same order. */
    static void placeOrderOnce(DataSource database, Order order, long sequenceWhenRead, UUID commitId)
            throws SQLException, Conflict, Unknown, InterruptedException {
        SQLException last = null;
        for (int attempt = 0; attempt < 8; attempt++) {
            try {
                transaction(database, connection -> {
                    run(connection,
                        "SELECT outbox.write(?, ?, json_build_object('id', ?, 'units', ?), expected => ?, commit_id => ?)",
                        order.key(), "order.placed", order.id(), order.units(), sequenceWhenRead, commitId);
                    run(connection, "INSERT INTO orders (id, customer, units) VALUES (?, ?, ?)",
                        order.id(), order.customer(), order.units());
                });
                return;
            } catch (SQLException refusal) {
                if ("OX001".equals(refusal.getSQLState())) {
                    // An earlier attempt of this order, whose answer was lost, or somebody else?
                    var isOurs = wasCommitted(database, order.key(), sequenceWhenRead + 1, commitId);
                    if (isOurs == null) {
                        throw new Unknown(refusal);
                    }
                    if (isOurs) {
                        return;
                    }
                    throw new Conflict(refusal);
                }
                // What the server refused, it will refuse again, unless it asks to try again, or the connection is lost.
                if (!String.valueOf(refusal.getSQLState()).matches("(08|40|53|57).*")) {
                    throw refusal;
                }
                last = refusal;
                Thread.sleep(50L << attempt);
            }
        }
        throw new SQLException("it is not known whether the order was placed: try again with the same commit id, before the retention is over", last);
    }

    /** Null if nobody can tell any more. */
    static Boolean wasCommitted(DataSource database, String key, long sequence, UUID commitId) throws SQLException {
        try (var connection = database.getConnection();
                var statement = connection.prepareStatement("SELECT outbox.committed(?, ?, ?)")) {
            statement.setString(1, key);
            statement.setLong(2, sequence);
            statement.setObject(3, commitId);
            try (var rows = statement.executeQuery()) {
                return rows.next() ? (Boolean) rows.getObject(1) : null;
            }
        }
    }
}
