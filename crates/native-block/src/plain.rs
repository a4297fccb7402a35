//! Columns whose values are written one after another.

use uuid::Uuid;

use crate::block::Column;
use crate::varint;

/// A column of `String`: any bytes in ClickHouse, here always UTF-8.
#[derive(Debug, Default)]
pub struct StringColumn {
    bytes: Vec<u8>,
    rows: usize,
}

impl StringColumn {
    /// Appends a row.
    pub fn push(&mut self, text: &str) {
        varint::write_string(&mut self.bytes, text);
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

    fn take(&mut self) -> Vec<u8> {
        self.rows = 0;
        std::mem::take(&mut self.bytes)
    }
}

/// A column of values of one width, little-endian.
macro_rules! fixed {
    ($(#[$doc:meta])* $column:ident, $value:ty, $type_name:literal) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $column {
            bytes: Vec<u8>,
        }

        impl $column {
            const WIDTH: usize = size_of::<$value>();

            /// Appends a row.
            pub fn push(&mut self, value: $value) {
                self.bytes.extend_from_slice(&value.to_le_bytes());
            }
        }

        impl Column for $column {
            fn type_name(&self) -> &'static str {
                $type_name
            }

            fn len(&self) -> usize {
                self.bytes.len() / Self::WIDTH
            }

            fn take(&mut self) -> Vec<u8> {
                std::mem::take(&mut self.bytes)
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
    bytes: Vec<u8>,
}

impl UuidColumn {
    /// Appends a row.
    pub fn push(&mut self, value: Uuid) {
        let (high, low) = value.as_u64_pair();
        self.bytes.extend_from_slice(&high.to_le_bytes());
        self.bytes.extend_from_slice(&low.to_le_bytes());
    }
}

impl Column for UuidColumn {
    fn type_name(&self) -> &'static str {
        "UUID"
    }

    fn len(&self) -> usize {
        self.bytes.len() / 16
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
