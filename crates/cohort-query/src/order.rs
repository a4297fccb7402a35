//! The order in which cohorts can be computed: each one after those that it refers to.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use uuid::Uuid;

/// Cohorts by levels, and those that cannot be ordered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// Cohorts that can be computed. Each level needs the levels before it; within a level the order is free.
    pub levels: Vec<Vec<Uuid>>,
    /// Cohorts that cannot be computed, each with the cycle that it is in or depends on: the members of the cycle in the
    /// order of their references.
    pub cyclic: BTreeMap<Uuid, Vec<Uuid>>,
}

/// Orders cohorts by their references. References to cohorts that are not among them are ignored.
pub fn order(references: &BTreeMap<Uuid, Vec<Uuid>>) -> Order {
    let mut graph: DiGraphMap<Uuid, ()> = DiGraphMap::new();
    for (cohort, to) in references {
        graph.add_node(*cohort);
        for to in to.iter().filter(|to| references.contains_key(to)) {
            graph.add_edge(*cohort, *to, ());
        }
    }
    let mut order = Order::default();
    let mut level_of: BTreeMap<Uuid, usize> = BTreeMap::new();
    // Components come in an order in which each one follows those that it refers to.
    for component in tarjan_scc(&graph) {
        let is_cycle = component.len() > 1 || graph.contains_edge(component[0], component[0]);
        if is_cycle {
            let cycle = along(&graph, &component);
            order
                .cyclic
                .extend(component.iter().map(|member| (*member, cycle.clone())));
            continue;
        }
        let cohort = component[0];
        if let Some(cycle) = graph.neighbors(cohort).find_map(|to| order.cyclic.get(&to)) {
            order.cyclic.insert(cohort, cycle.clone());
            continue;
        }
        let level = graph
            .neighbors(cohort)
            .map(|to| level_of[&to] + 1)
            .max()
            .unwrap_or(0);
        level_of.insert(cohort, level);
        if order.levels.len() <= level {
            order.levels.resize_with(level + 1, Vec::new);
        }
        order.levels[level].push(cohort);
    }
    for level in &mut order.levels {
        level.sort_unstable();
    }
    order
}

/// A cycle inside a strongly connected component, beginning with its smallest member.
fn along(graph: &DiGraphMap<Uuid, ()>, component: &[Uuid]) -> Vec<Uuid> {
    let members: BTreeSet<Uuid> = component.iter().copied().collect();
    let start = component.iter().copied().min().unwrap_or_default();
    // Breadth first: finds a shortest way back to the start.
    let mut came_from: BTreeMap<Uuid, Uuid> = BTreeMap::new();
    let mut reached = std::collections::VecDeque::from([start]);
    while let Some(at) = reached.pop_front() {
        let mut next: Vec<Uuid> = graph.neighbors(at).filter(|to| members.contains(to)).collect();
        next.sort_unstable();
        for to in next {
            if to == start {
                let mut cycle = vec![at];
                while let Some(before) = came_from.get(&cycle[cycle.len() - 1]) {
                    cycle.push(*before);
                }
                cycle.reverse();
                return cycle;
            }
            if to != start && !came_from.contains_key(&to) {
                came_from.insert(to, at);
                reached.push_back(to);
            }
        }
    }
    component.to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u8) -> Uuid {
        Uuid::from_u128(n.into())
    }

    fn of(references: &[(u8, &[u8])]) -> Order {
        let references = references
            .iter()
            .map(|(cohort, to)| (id(*cohort), to.iter().map(|n| id(*n)).collect()));
        order(&references.collect())
    }

    #[test]
    fn what_others_refer_to_comes_first() {
        let order = of(&[(1, &[2, 3]), (2, &[3]), (3, &[9]), (4, &[])]);
        assert_eq!(order.levels, [vec![id(3), id(4)], vec![id(2)], vec![id(1)]]);
        assert!(order.cyclic.is_empty());
    }

    #[test]
    fn a_cycle_and_what_depends_on_it_are_left_out() {
        let order = of(&[
            (1, &[2]),
            (2, &[3]),
            (3, &[1]),
            (4, &[1]),
            (5, &[4]),
            (6, &[]),
            (7, &[7]),
        ]);
        assert_eq!(order.levels, [vec![id(6)]]);
        let ring = vec![id(1), id(2), id(3)];
        for cohort in 1..=5 {
            assert_eq!(order.cyclic[&id(cohort)], ring, "{cohort}");
        }
        assert_eq!(order.cyclic[&id(7)], [id(7)]);
    }

    proptest! {
        #[test]
        fn every_cohort_is_ordered_after_its_references_or_reaches_a_cycle(
            edges in proptest::collection::vec((0u8..12, 0u8..12), 0..30)
        ) {
            let mut references: BTreeMap<Uuid, Vec<Uuid>> = (0..12).map(|n| (id(n), Vec::new())).collect();
            for (from, to) in &edges {
                references.get_mut(&id(*from)).unwrap().push(id(*to));
            }
            let order = order(&references);
            let mut seen = BTreeSet::new();
            for level in &order.levels {
                for cohort in level {
                    prop_assert!(references[cohort].iter().all(|to| seen.contains(to)));
                }
                seen.extend(level.iter().copied());
            }
            for (cohort, cycle) in &order.cyclic {
                prop_assert!(!seen.contains(cohort));
                for (index, member) in cycle.iter().enumerate() {
                    prop_assert!(references[member].contains(&cycle[(index + 1) % cycle.len()]));
                }
            }
            prop_assert_eq!(seen.len() + order.cyclic.len(), references.len());
        }
    }
}
