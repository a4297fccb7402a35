//! Compiles a definition to one query: conditions become passes and sets, groups become intersections and unions of them.

use uuid::Uuid;

use crate::condition::{Scope, Scoped, moment_sql};
use crate::definition::{Condition, Conjunction, Definition, Group, Node};
use crate::parameters::{Parameter, Parameters, Value};
use crate::pass::Pass;

/// Where the members of a cohort are that a definition refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// There is no such cohort: it has no members.
    Missing,
    /// In `person_static_cohort`.
    Static,
    /// In `cohort_members`, at this version.
    Dynamic {
        /// The value of `cohorts.membership_version`.
        version: u64,
    },
}

/// A query that finds the members of a cohort: one column `person`, each member once.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The text of the query. Nothing of the definition is part of it.
    pub sql: String,
    /// The parameters that the text refers to.
    pub parameters: Vec<Parameter>,
}

/// Compiles a definition for one project. `now` is in milliseconds since 1970, UTC; later events do not count.
pub fn compile(
    definition: &Definition,
    project: Uuid,
    now: i64,
    reference: &dyn Fn(Uuid) -> Reference,
) -> Query {
    let mut compiler = Compiler {
        parameters: Parameters::default(),
        project,
        now,
        reference,
    };
    let sql = compiler.sql(&members(&definition.root));
    Query {
        sql,
        parameters: compiler.parameters.into_list(),
    }
}

/// A set of persons.
enum Set<'a> {
    Empty,
    /// Persons found in one pass over `events`.
    Pass {
        scope: Scope,
        members: Members<'a>,
    },
    /// The members of another cohort.
    Cohort(Uuid),
    Together(Conjunction, Vec<Self>),
}

/// What makes a person of one pass a member.
enum Members<'a> {
    Condition(&'a Condition),
    /// Not being a member of another cohort.
    NotIn(Uuid),
    Together(Conjunction, Vec<Self>),
}

fn members(group: &Group) -> Set<'_> {
    let conjunction = group.conjunction;
    let mut sets: Vec<Set<'_>> = Vec::new();
    for node in &group.nodes {
        let set = match node {
            Node::Group(group) => members(group),
            Node::Cohort { id, negated: false } => Set::Cohort(*id),
            Node::Cohort { id, negated: true } => Set::Pass {
                scope: Scope::All,
                members: Members::NotIn(*id),
            },
            Node::Condition(condition) => Set::Pass {
                scope: Scope::of(condition),
                members: Members::Condition(condition),
            },
        };
        match (set, conjunction) {
            (Set::Empty, Conjunction::And) => return Set::Empty,
            (Set::Empty, Conjunction::Or) => {}
            (Set::Pass { scope, members }, _) => add_pass(&mut sets, conjunction, scope, members),
            (set, _) => sets.push(set),
        }
    }
    match sets.len() {
        0 => Set::Empty,
        1 => sets.remove(0),
        _ => Set::Together(conjunction, sets),
    }
}

/// Adds a pass to those of a group. Where the scopes allow, it shares the scan of an earlier one: each condition checks its
/// rows itself, so more rows in scope change nothing.
fn add_pass<'a>(sets: &mut Vec<Set<'a>>, conjunction: Conjunction, scope: Scope, members: Members<'a>) {
    for set in sets.iter_mut() {
        let Set::Pass {
            scope: other,
            members: others,
        } = set
        else {
            continue;
        };
        let Some(both) = other.with(&scope) else { continue };
        *other = both;
        match others {
            Members::Together(same, list) if *same == conjunction => list.push(members),
            _ => {
                let first = std::mem::replace(others, Members::Together(conjunction, Vec::new()));
                *others = Members::Together(conjunction, vec![first, members]);
            }
        }
        return;
    }
    sets.push(Set::Pass { scope, members });
}

struct Compiler<'a> {
    parameters: Parameters,
    project: Uuid,
    now: i64,
    reference: &'a dyn Fn(Uuid) -> Reference,
}

impl Compiler<'_> {
    fn sql(&mut self, set: &Set<'_>) -> String {
        match set {
            Set::Empty => no_person(),
            Set::Cohort(id) => self.cohort(*id),
            Set::Pass { scope, members } => self.pass(scope, members),
            Set::Together(conjunction, sets) => {
                let sets: Vec<String> = sets.iter().map(|set| parenthesised(&self.sql(set))).collect();
                let operation = match conjunction {
                    Conjunction::And => "\nINTERSECT DISTINCT\n",
                    Conjunction::Or => "\nUNION DISTINCT\n",
                };
                sets.join(operation)
            }
        }
    }

    fn project(&mut self) -> String {
        self.parameters.bind_as("project", Value::Id(self.project))
    }

    fn pass(&mut self, scope: &Scope, members: &Members<'_>) -> String {
        let project = self.project();
        let now = self.parameters.bind_as("now", Value::Moment(self.now));
        // The cohorts' queries are written before the pass, as both borrow the parameters.
        let cohorts = self.cohorts_of(members);
        let mut pass = Pass::new(&mut self.parameters);
        pass.only(format!("project_id = {project}"));
        pass.only(format!("timestamp <= {}", moment_sql(&now)));
        let mut scoped = Scoped {
            pass: &mut pass,
            scope,
            now: self.now,
        };
        scoped.restrict();
        let members = written(members, &mut scoped, &mut cohorts.into_iter());
        pass.finish(&members)
    }

    /// The queries of the cohorts that members must not belong to, in the order of the conditions.
    fn cohorts_of(&mut self, members: &Members<'_>) -> Vec<String> {
        match members {
            Members::NotIn(id) => vec![self.cohort(*id)],
            Members::Condition(_) => Vec::new(),
            Members::Together(_, list) => list.iter().flat_map(|members| self.cohorts_of(members)).collect(),
        }
    }

    fn cohort(&mut self, id: Uuid) -> String {
        let reference = (self.reference)(id);
        if reference == Reference::Missing {
            return no_person();
        }
        let project = self.project();
        let cohort = self.parameters.bind(Value::Id(id));
        let (table, version) = match reference {
            Reference::Dynamic { version } => {
                let version = self.parameters.bind(Value::Version(version));
                ("cohort_members", format!(" AND version = {version}"))
            }
            _ => ("person_static_cohort", String::new()),
        };
        format!(
            "SELECT DISTINCT person_id AS person FROM {table} WHERE project_id = {project} AND cohort_id = {cohort}{version}"
        )
    }
}

fn written(
    members: &Members<'_>,
    scoped: &mut Scoped<'_, '_>,
    cohorts: &mut impl Iterator<Item = String>,
) -> String {
    match members {
        Members::NotIn(_) => {
            format!("person NOT IN ({})", cohorts.next().unwrap_or_else(no_person))
        }
        Members::Condition(condition) => scoped.members(condition),
        Members::Together(conjunction, list) => {
            let list: Vec<String> = list
                .iter()
                .map(|members| written(members, scoped, cohorts))
                .collect();
            let operation = match conjunction {
                Conjunction::And => "\n    AND ",
                Conjunction::Or => "\n    OR ",
            };
            format!("({})", list.join(operation))
        }
    }
}

fn no_person() -> String {
    "SELECT toUUID('00000000-0000-0000-0000-000000000000') AS person WHERE 0".to_owned()
}

fn parenthesised(sql: &str) -> String {
    let lines: Vec<String> = sql.lines().map(|line| format!("    {line}")).collect();
    format!("(\n{}\n)", lines.join("\n"))
}
