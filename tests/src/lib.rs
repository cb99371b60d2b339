//! Stand-ins and scaffolding for the tests of the whole farm. Nothing here is part of the product.
