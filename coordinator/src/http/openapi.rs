//! What the API says of itself, made from the routes and the types that they use.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::header;
use axum::routing::get;
use axum::{Router, response::IntoResponse};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, SecurityRequirement,
};
use utoipa::{IntoResponses, OpenApi as _, ToSchema};

use super::problem::{CONTENT_TYPE, Problem};
use super::{Api, outputs};

const BEARER: &str = "token";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Grange",
        description = "A render farm for Blender. Moments are milliseconds since the Unix epoch; \
                       sizes are bytes unless their name says MiB.",
    ),
    components(schemas(Problem)),
    tags(
        (name = "farm", description = "The farm as a whole"),
        (name = "jobs", description = "Jobs, their tasks and logs"),
        (name = "outputs", description = "What jobs have rendered"),
        (name = "files", description = "Files by their BLAKE3 hash"),
        (name = "events", description = "What happens, as it happens"),
        (name = "members", description = "Who has joined; for admins"),
        (name = "tokens", description = "Who may use this API; for admins"),
    ),
)]
struct Document;

#[derive(utoipa::OpenApi)]
#[openapi(paths(outputs::get))]
struct OfOutput;

/// The document before there are any routes in it.
pub(super) fn document() -> OpenApi {
    let mut document = Document::openapi();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_with(Components::new).add_security_scheme(BEARER, bearer);
    document.security = Some(vec![SecurityRequirement::new(BEARER, Vec::<String>::new())]);
    document
}

/// The one path that the router's own words do not describe.
pub(super) fn of_output() -> OpenApi {
    OfOutput::openapi()
}

/// Serves the document.
pub(super) fn route(document: OpenApi) -> Router<Api> {
    let text: Arc<str> = document.to_json().unwrap_or_default().into();
    let serve = async move || {
        ([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response()
    };
    Router::new().route("/openapi.json", get(serve))
}

/// Every answer that is none of those that a route names is a problem.
pub(super) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let problem = |description: &str| {
            let schema = Ref::from_schema_name(Problem::name());
            let content = ContentBuilder::new().schema(Some(schema)).build();
            ResponseBuilder::new().description(description).content(CONTENT_TYPE, content).build()
        };
        BTreeMap::from([
            ("401".into(), problem("The token is missing, or good for nothing").into()),
            ("default".into(), problem("What went wrong").into()),
        ])
    }
}
