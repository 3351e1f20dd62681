package sluice;

import java.io.File;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.SparkSessionExtensions;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.rules.Rule;
import scala.runtime.AbstractFunction1;

/**
 * Makes every folder of the warehouse a catalog of the session, also those that appear later.
 *
 * A rule that looks at the warehouse before each query's names are resolved (the hint batch is the one that runs before) and changes
 * no plan. Spark loads a catalog at its first use, by the settings made here.
 */
public class WarehouseExtension extends AbstractFunction1 {
    public Object apply(Object extensions) {
        ((SparkSessionExtensions) extensions).injectHintResolutionRule(new AbstractFunction1() {
            public Object apply(Object session) {
                return new FindCatalogs();
            }
        });
        return null;
    }

    public static class FindCatalogs extends Rule {
        public Object apply(Object plan) {
            refresh(SparkSession.active());
            return plan;
        }

        public LogicalPlan apply(org.apache.spark.sql.catalyst.trees.TreeNode plan) {
            return (LogicalPlan) this.apply((Object) plan);
        }
    }

    public static void refresh(SparkSession session) {
        String warehouse = session.conf().get("spark.sluice.warehouse");
        File[] entries = new File(warehouse).listFiles();
        for (int i = 0; entries != null && i < entries.length; i++) {
            String name = entries[i].getName();
            String key = "spark.sql.catalog." + name;
            if (entries[i].isDirectory() && name.matches(WarehouseCatalog.PLAIN) && session.conf().getOption(key).isEmpty()) {
                session.conf().set(key + ".warehouse", warehouse);
                session.conf().set(key, "sluice.WarehouseCatalog");
            }
        }
    }
}
