//! One pass over `events`: collects the parts of its query and writes the text.

use crate::document;
use crate::parameters::Parameters;

/// What a pass computes per row and per person.
pub(crate) struct Pass<'a> {
    /// The parameters of the whole query.
    pub(crate) parameters: &'a mut Parameters,
    documents: Vec<&'static str>,
    columns: Vec<String>,
    aggregates: Vec<String>,
    rows: Vec<String>,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(parameters: &'a mut Parameters) -> Self {
        Self {
            parameters,
            documents: Vec::new(),
            columns: Vec::new(),
            aggregates: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// The name of a column's document in a form that the engine can read.
    pub(crate) fn document(&mut self, column: &'static str) -> String {
        if !self.documents.contains(&column) {
            self.documents.push(column);
        }
        format!("readable_{column}")
    }

    /// Adds an expression over a row and returns its name.
    pub(crate) fn column(&mut self, expression: String) -> String {
        named(&mut self.columns, "value", expression)
    }

    /// Adds an expression over the rows of a person and returns its name.
    pub(crate) fn aggregate(&mut self, expression: String) -> String {
        named(&mut self.aggregates, "result", expression)
    }

    /// Restricts the pass to rows for which a condition holds.
    pub(crate) fn only(&mut self, condition: String) {
        if !self.rows.contains(&condition) {
            self.rows.push(condition);
        }
    }

    /// The query for the persons for whom `members` holds.
    pub(crate) fn finish(self, members: &str) -> String {
        let mut sql = String::from("SELECT person\nFROM (\n");
        if !self.columns.is_empty() {
            sql += &format!("    WITH\n{}\n", list(&self.columns, "value"));
        }
        let person = "        dictGetOrDefault('person_overrides_dict', 'person_id', (project_id, distinct_id), person_id) AS person";
        sql += &format!("    SELECT\n{person}");
        if !self.aggregates.is_empty() {
            sql += &format!(",\n{}", list(&self.aggregates, "result"));
        }
        sql += &self.rows();
        sql += "    GROUP BY person\n)";
        if members != "1" {
            sql += &format!("\nWHERE {members}");
        }
        sql
    }

    /// The `FROM` clause: the rows and their documents.
    ///
    /// A document is an `ARRAY JOIN` of one element, so that the engine computes it once per row. Otherwise it would do so
    /// in each branch of each expression that reads it, at several times the cost.
    fn rows(&self) -> String {
        let rows = self.rows.join("\n        AND ");
        if self.documents.is_empty() {
            return format!("\n    FROM events\n    WHERE {rows}\n");
        }
        let documents = self.documents.iter();
        let documents =
            documents.map(|column| format!("        [{}] AS readable_{column}", document::readable(column)));
        let documents: Vec<String> = documents.collect();
        format!(
            "\n    FROM (SELECT * FROM events\n    WHERE {rows})\n    ARRAY JOIN\n{}\n",
            documents.join(",\n")
        )
    }
}

fn named(known: &mut Vec<String>, name: &str, expression: String) -> String {
    let index = known.iter().position(|k| *k == expression).unwrap_or_else(|| {
        known.push(expression);
        known.len() - 1
    });
    format!("{name}_{}", index + 1)
}

fn list(expressions: &[String], name: &str) -> String {
    let lines = expressions.iter().enumerate();
    let lines = lines.map(|(index, expression)| format!("        {expression} AS {name}_{}", index + 1));
    lines.collect::<Vec<_>>().join(",\n")
}
