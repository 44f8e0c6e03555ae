import java.sql.SQLException;
import java.util.UUID;
import org.postgresql.ds.PGSimpleDataSource;

/** Does what Orders.java can do, and what has to be refused, where orders.sql was run. Takes a URL of JDBC. */
public final class Scenario {
    interface Call {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        var database = new PGSimpleDataSource();
        database.setUrl(arguments[0]);
        database.setPrepareThreshold(0);
        try (var connection = database.getConnection()) {
            Orders.run(connection, "INSERT INTO customers (id) VALUES ('42')");
        }
        var first = new Orders.Order("o-1", "42", 1);
        Orders.placeOrder(database, first);
        Orders.placeOrder(database, new Orders.Order("o-2", "42", 2));
        refused("23505", () -> Orders.placeOrder(database, first));
        refused("22023", () -> Orders.placeOrder(database, new Orders.Order("o-3", "\n", 3)));
        Orders.ship(database, "o-1", "o-2");
        Orders.ship(database, "o-9");

        long read = Orders.sequenceOf(database, "customer/42");
        refused("OX001", () -> Orders.closeAccount(database, "42", read - 1));
        Orders.closeAccount(database, "42", read);

        var commit = new UUID(1, 2);
        var order = new Orders.Order("o-4", "7", 1);
        Orders.placeOrderOnce(database, order, 0, commit);
        Orders.placeOrderOnce(database, order, 0, commit);
        refused("OX001", () -> Orders.placeOrderOnce(database, order, 0, new UUID(3, 4)));
        System.out.println("done");
    }

    static void refused(String state, Call call) throws Exception {
        try {
            call.run();
        } catch (SQLException | Orders.Conflict refusal) {
            var said = refusal instanceof SQLException sql ? sql : (SQLException) refusal.getCause();
            if (state.equals(said.getSQLState())) {
                return;
            }
            throw refusal;
        }
        throw new AssertionError("what has to be refused with " + state + " went through");
    }
}
