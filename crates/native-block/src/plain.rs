//! Columns whose values are written one after another.

use uuid::Uuid;

use crate::block::Column;
use crate::pieces::Pieces;
use crate::varint;

/// A column of `String`: any bytes in ClickHouse, here always UTF-8.
#[derive(Debug, Default)]
pub struct StringColumn {
    bytes: Pieces,
    rows: usize,
}

impl StringColumn {
    /// Appends a row.
    pub fn push(&mut self, text: &str) {
        let bytes = self.bytes.with_room(varint::MOST_BYTES + text.len());
        varint::write_string(bytes, text);
        self.rows += 1;
    }
}

impl Column for StringColumn {
    fn type_name(&self) -> &'static str {
        "String"
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        self.rows = 0;
        self.bytes.take()
    }
}

/// A column of values of one width, little-endian.
macro_rules! fixed {
    ($(#[$doc:meta])* $column:ident, $value:ty, $type_name:literal) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $column {
            bytes: Pieces,
            rows: usize,
        }

        impl $column {
            /// Appends a row.
            pub fn push(&mut self, value: $value) {
                let bytes = value.to_le_bytes();
                self.bytes.with_room(bytes.len()).extend_from_slice(&bytes);
                self.rows += 1;
            }
        }

        impl Column for $column {
            fn type_name(&self) -> &'static str {
                $type_name
            }

            fn len(&self) -> usize {
                self.rows
            }

            fn take(&mut self) -> Vec<Vec<u8>> {
                self.rows = 0;
                self.bytes.take()
            }
        }
    };
}

fixed!(
    /// A column of `UInt16`.
    UInt16Column, u16, "UInt16"
);
fixed!(
    /// A column of `UInt64`.
    UInt64Column, u64, "UInt64"
);
fixed!(
    /// A column of `Date`: days since 1970.
    DateColumn, u16, "Date"
);
fixed!(
    /// A column of `DateTime`: seconds since 1970.
    DateTimeColumn, u32, "DateTime"
);
fixed!(
    /// A column of `DateTime64(3, 'UTC')`: milliseconds since 1970.
    DateTime64Column, i64, "DateTime64(3, 'UTC')"
);

/// A column of `UUID`: two 64-bit halves, the first half first, each little-endian.
#[derive(Debug, Default)]
pub struct UuidColumn {
    bytes: Pieces,
    rows: usize,
}

impl UuidColumn {
    /// Appends a row.
    pub fn push(&mut self, value: Uuid) {
        let (high, low) = value.as_u64_pair();
        let bytes = self.bytes.with_room(size_of::<Uuid>());
        bytes.extend_from_slice(&high.to_le_bytes());
        bytes.extend_from_slice(&low.to_le_bytes());
        self.rows += 1;
    }
}

impl Column for UuidColumn {
    fn type_name(&self) -> &'static str {
        "UUID"
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        self.rows = 0;
        self.bytes.take()
    }
}
