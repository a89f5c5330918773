// What the served preset offers, read from the server's own description of its API.

let found = null;

export async function choices() {
  found ??= fetch("openapi.json")
    .then((response) => { if (!response.ok) throw new Error(`${response.status}`); return response.json(); })
    .then((description) => read(description.components.schemas.CreateVideo.properties))
    .catch((error) => { found = null; throw error; });
  return found;
}

function read(fields) {
  const of = (name) => fields[name].anyOf?.[0] ?? fields[name];
  return {
    model: of("model").enum[0],
    sizes: of("size").enum,
    seconds: of("seconds").enum,
    steps: of("steps").maximum,
    factor: of("factor").maximum,
    candidates: of("candidates").maximum,
    promptChars: of("prompt").maxLength,
  };
}
