//! How ids travel to PostgreSQL and back: as what they are made of.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::event::{DistinctId, PersonId, ProjectId};

macro_rules! travels_as {
    ($($id:ident: $inner:ty,)+) => {$(
        impl<'a> FromSql<'a> for $id {
            fn from_sql(from: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
                <$inner>::from_sql(from, raw).map(Self)
            }

            fn accepts(from: &Type) -> bool {
                <$inner as FromSql>::accepts(from)
            }
        }

        impl ToSql for $id {
            fn to_sql(&self, to: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
                self.0.to_sql(to, out)
            }

            fn accepts(to: &Type) -> bool {
                <$inner as ToSql>::accepts(to)
            }

            to_sql_checked!();
        }
    )+};
}

travels_as! {
    DistinctId: Box<str>,
    PersonId: Uuid,
    ProjectId: Uuid,
}
