//! Why events were set aside, as the newest of them say: a look that costs the same however long a queue is.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Queue;
use crate::stores::{StoreError, script};

/// Looked at, at most…
const MOST_LETTERS: usize = 200;
/// …and until they have so many bytes: a letter may have megabytes.
const MOST_BYTES: usize = 1 << 20;

const COUNT: &str = r"
local counts, seen, bytes, from = {}, 0, 0, '+'
while seen < tonumber(ARGV[1]) and bytes < tonumber(ARGV[2]) do
  local letter = redis.call('XREVRANGE', KEYS[1], from, '-', 'COUNT', 1)[1]
  if not letter then break end
  local reason = ''
  for i = 1, #letter[2], 2 do
    bytes = bytes + #letter[2][i + 1]
    if letter[2][i] == 'reason' then reason = string.sub(letter[2][i + 1], 1, 100) end
  end
  counts[reason] = (counts[reason] or 0) + 1
  seen = seen + 1
  from = '(' .. letter[1]
end
local told = {}
for reason, count in pairs(counts) do
  told[#told + 1] = reason
  told[#told + 1] = count
end
return {seen, told}";

/// Why the newest letters of a queue were set aside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Reasons {
    /// Letters that were looked at: the newest ones.
    pub newest: u64,
    /// Of them, by reason; a predecessor's letter has none.
    pub counts: BTreeMap<String, u64>,
}

impl Queue {
    /// Looks at why the newest letters were set aside.
    ///
    /// # Errors
    /// Redis's, or when the key is no stream.
    pub(crate) async fn reasons(&self) -> Result<Reasons, StoreError> {
        let mut count = script(COUNT, &[self.name]);
        count.arg(MOST_LETTERS).arg(MOST_BYTES);
        let place = (self.name, "stream");
        let (newest, counts): (u64, BTreeMap<Vec<u8>, u64>) =
            self.redis.ask_of("counting reasons", place, &count).await?;
        let mut reasons = Reasons {
            newest,
            ..Reasons::default()
        };
        for (reason, count) in counts {
            let reason = String::from_utf8_lossy(&reason).into_owned();
            *reasons.counts.entry(reason).or_default() += count;
        }
        Ok(reasons)
    }
}
