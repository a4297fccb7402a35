//! native-block
