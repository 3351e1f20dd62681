package sluice;

import java.io.File;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import org.apache.hadoop.fs.Path;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.catalyst.analysis.NoSuchNamespaceException;
import org.apache.spark.sql.catalyst.analysis.NoSuchTableException;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.Literal$;
import org.apache.spark.sql.connector.catalog.Identifier;
import org.apache.spark.sql.connector.catalog.NamespaceChange;
import org.apache.spark.sql.connector.catalog.SupportsNamespaces;
import org.apache.spark.sql.connector.catalog.Table;
import org.apache.spark.sql.connector.catalog.TableCatalog;
import org.apache.spark.sql.connector.catalog.TableChange;
import org.apache.spark.sql.connector.expressions.Transform;
import org.apache.spark.sql.delta.DeltaTimeTravelSpec;
import org.apache.spark.sql.delta.catalog.DeltaTableV2$;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;
import scala.Option;
import scala.Some;
import scala.collection.immutable.Map$;

/**
 * One catalog of the warehouse: `catalog.schema.table` is the Delta table in WAREHOUSE/catalog/schema/table.
 *
 * The folders are the only truth: nothing is registered, and a table is seen as soon as its log is there, by any number of
 * processes. Names that are no plain word (so: none with a slash or a dot) name no table. Making and dropping tables is the table
 * job's affair and refused here. Written in the Java that Janino compiles: no lambdas.
 */
public class WarehouseCatalog implements TableCatalog, SupportsNamespaces {
    static final String PLAIN = "[A-Za-z0-9_][A-Za-z0-9_-]{0,199}";

    private String name;
    private File root;

    public void initialize(String name, CaseInsensitiveStringMap options) {
        this.name = name;
        this.root = new File(options.get("warehouse"), name);
    }

    public String name() {
        return this.name;
    }

    private static String[] folders(File parent) {
        ArrayList<String> names = new ArrayList<String>();
        File[] entries = parent.listFiles();
        if (entries != null) {
            for (int i = 0; i < entries.length; i++) {
                if (entries[i].isDirectory() && entries[i].getName().matches(PLAIN)) {
                    names.add(entries[i].getName());
                }
            }
        }
        String[] sorted = (String[]) names.toArray(new String[names.size()]);
        Arrays.sort(sorted);
        return sorted;
    }

    private static boolean isTable(File folder) {
        String[] log = new File(folder, "_delta_log").list();
        return log != null && log.length > 0;
    }

    public boolean namespaceExists(String[] namespace) {
        return namespace.length == 1 && namespace[0].matches(PLAIN) && new File(this.root, namespace[0]).isDirectory();
    }

    public String[][] listNamespaces() {
        String[] schemas = folders(this.root);
        String[][] namespaces = new String[schemas.length][];
        for (int i = 0; i < schemas.length; i++) {
            namespaces[i] = new String[] {schemas[i]};
        }
        return namespaces;
    }

    public String[][] listNamespaces(String[] namespace) throws NoSuchNamespaceException {
        if (namespace.length == 0) {
            return this.listNamespaces();
        }
        this.loadNamespaceMetadata(namespace);
        return new String[0][];
    }

    public Map<String, String> loadNamespaceMetadata(String[] namespace) throws NoSuchNamespaceException {
        if (!this.namespaceExists(namespace)) {
            throw new NoSuchNamespaceException(namespace);
        }
        HashMap<String, String> metadata = new HashMap<String, String>();
        metadata.put("location", new File(this.root, namespace[0]).getPath());
        return metadata;
    }

    public Identifier[] listTables(String[] namespace) throws NoSuchNamespaceException {
        this.loadNamespaceMetadata(namespace);
        ArrayList<Identifier> tables = new ArrayList<Identifier>();
        String[] names = folders(new File(this.root, namespace[0]));
        for (int i = 0; i < names.length; i++) {
            if (isTable(new File(new File(this.root, namespace[0]), names[i]))) {
                tables.add(Identifier.of(namespace, names[i]));
            }
        }
        return (Identifier[]) tables.toArray(new Identifier[tables.size()]);
    }

    private Table open(Identifier table, Option timeTravel) throws NoSuchTableException {
        if (!this.namespaceExists(table.namespace()) || !table.name().matches(PLAIN)) {
            throw new NoSuchTableException(table);
        }
        File folder = new File(new File(this.root, table.namespace()[0]), table.name());
        if (!isTable(folder)) {
            throw new NoSuchTableException(table);
        }
        return DeltaTableV2$.MODULE$.apply(
            SparkSession.active(),
            new Path(folder.toURI()),
            Option.empty(),
            new Some(this.name + "." + table.namespace()[0] + "." + table.name()),
            Map$.MODULE$.empty(),
            timeTravel);
    }

    public Table loadTable(Identifier table) throws NoSuchTableException {
        return this.open(table, Option.empty());
    }

    public Table loadTable(Identifier table, String version) throws NoSuchTableException {
        return this.open(table, new Some(new DeltaTimeTravelSpec(Option.empty(), new Some(Long.valueOf(version)), new Some("sql"), false)));
    }

    public Table loadTable(Identifier table, long micros) throws NoSuchTableException {
        Expression at = Literal$.MODULE$.apply(new java.sql.Timestamp(Math.floorDiv(micros, 1000L)));
        return this.open(table, new Some(new DeltaTimeTravelSpec(new Some(at), Option.empty(), new Some("sql"), false)));
    }

    private static UnsupportedOperationException refused(String what) {
        return new UnsupportedOperationException(what + " is not done by SQL here: the table job makes the tables, and a table ends with its folder");
    }

    public Table createTable(Identifier table, StructType schema, Transform[] partitions, Map<String, String> properties) {
        throw refused("CREATE TABLE");
    }

    public Table alterTable(Identifier table, TableChange[] changes) {
        throw refused("ALTER TABLE");
    }

    public boolean dropTable(Identifier table) {
        throw refused("DROP TABLE");
    }

    public void renameTable(Identifier from, Identifier to) {
        throw refused("RENAME TABLE");
    }

    public void createNamespace(String[] namespace, Map<String, String> metadata) {
        throw refused("CREATE SCHEMA");
    }

    public void alterNamespace(String[] namespace, NamespaceChange[] changes) {
        throw refused("ALTER SCHEMA");
    }

    public boolean dropNamespace(String[] namespace, boolean cascade) {
        throw refused("DROP SCHEMA");
    }
}
