import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Ends with 0 once a cluster does what its users need: all brokers are in the metadata, a group has
 * a coordinator, and so has a transaction. The first use of each makes its internal topic, which is
 * why this waits for it and not the first test.
 */
public final class Probe {
    public static void main(String[] arguments) throws Exception {
        String servers = arguments[0];
        int brokers = Integer.parseInt(arguments[1]);
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(Long.parseLong(arguments[2]));
        Properties properties = new Properties();
        properties.put("bootstrap.servers", servers);
        properties.put("request.timeout.ms", "5000");
        properties.put("default.api.timeout.ms", "10000");
        properties.put("reconnect.backoff.max.ms", "200");
        while (true) {
            try {
                probe(properties, brokers);
                System.exit(0);
            } catch (Exception e) {
                if (System.nanoTime() > deadline) {
                    System.err.println("the brokers at " + servers + " do not answer: " + e);
                    System.exit(1);
                }
                Thread.sleep(200);
            }
        }
    }

    private static void probe(Properties properties, int brokers) throws Exception {
        try (Admin admin = Admin.create(properties)) {
            int seen = admin.describeCluster().nodes().get(5, TimeUnit.SECONDS).size();
            if (seen < brokers) {
                throw new IllegalStateException(seen + " of " + brokers + " brokers");
            }
            admin.listConsumerGroupOffsets("penstock.probe").all().get(10, TimeUnit.SECONDS);
        }
        Properties transactional = new Properties();
        transactional.putAll(properties);
        transactional.put("transactional.id", "penstock.probe");
        transactional.put("max.block.ms", "10000");
        try (var producer = new KafkaProducer<>(transactional, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.initTransactions();
        }
    }
}
