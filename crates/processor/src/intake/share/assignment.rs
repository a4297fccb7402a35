//! Which instance reads which stream, as every instance works it out for itself.

use xxhash_rust::xxh3::xxh3_64;

/// The owner of each stream, in the order of the streams: as many streams for each member as for any other, or one fewer.
/// Whoever works it out from the same names gets the same; where a member comes or goes, most streams stay where they are.
///
/// Without members no stream has an owner, and the answer is empty.
pub(super) fn assign<'a>(streams: &[String], members: &'a [String]) -> Vec<&'a str> {
    let mut members: Vec<&str> = members.iter().map(String::as_str).collect();
    members.sort_unstable();
    members.dedup();
    if members.is_empty() {
        return Vec::new();
    }
    let (fair, mut larger) = (streams.len() / members.len(), streams.len() % members.len());
    let mut counts = vec![0; members.len()];
    let owners = streams.iter().map(|stream| {
        let weight = |member: usize| xxh3_64(format!("{} {stream}", members[member]).as_bytes());
        let may_take = |member: &usize| counts[*member] < fair || (counts[*member] == fair && larger > 0);
        let all = 0..members.len();
        let owner = all
            .filter(may_take)
            .max_by_key(|member| weight(*member))
            .unwrap_or_default();
        counts[owner] += 1;
        larger -= usize::from(counts[owner] > fair);
        members[owner]
    });
    owners.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(prefix: &str, count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{prefix}{n}")).collect()
    }

    proptest! {
        #[test]
        fn every_stream_has_one_owner_and_no_member_has_more_than_one_more_than_another(
            streams in 0_usize..40, members in 1_usize..12,
        ) {
            let (streams, members) = (names("s", streams), names("worker-", members));
            let owners = assign(&streams, &members);
            prop_assert_eq!(owners.len(), streams.len());
            let counts = members.iter().map(|member| owners.iter().filter(|owner| **owner == member).count());
            let counts: Vec<usize> = counts.collect();
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        }

        #[test]
        fn the_order_in_which_members_are_named_does_not_matter(members in 1_usize..8, by in 0_usize..8) {
            let streams = names("s", 9);
            let members = names("worker-", members);
            let mut turned = members.clone();
            turned.rotate_left(by % members.len());
            prop_assert_eq!(assign(&streams, &members), assign(&streams, &turned));
        }
    }

    #[test]
    fn a_member_that_comes_takes_its_share_and_most_streams_stay_where_they_are() {
        let streams = names("s", 32);
        let before = names("worker-", 4);
        let after = names("worker-", 5);
        let (before, after) = (assign(&streams, &before), assign(&streams, &after));
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after);
        assert!(moved.count() <= 20, "{before:?} {after:?}");
    }

    #[test]
    fn nobody_owns_anything_where_there_are_no_members() {
        assert!(assign(&names("s", 3), &[]).is_empty());
    }
}
