"""Other words for where, when, in what weather and how something is drawn: ours -> others, between commas.

As `meanings`, whose other half this is.
"""

# "in the snow" and the sea give way to any other place
PLACES: dict[str, str] = {
    "snowy forest": (
        "snow-covered forest, snowy woods, winter woods, snowy pine forest, snow-covered trees, wintry forest"
    ),
    "snow": "winter wonderland, snowy landscape, snowy field, winter landscape, deep snow, fresh snow",
    "winter": "wintertime",
    "beach": "seashore, sandy shore, tropical beach, shore, coast, island, tropical island, harbour, harbor",
    "ocean": "sea, open sea, open ocean, water",
    "meadow": (
        "field, flower field, grassland, pasture, prairie, wildflowers, flowers, lawn, green field, flower "
        "meadow, tall grass, green grass, park, savanna, savannah, backyard, sunflower field, sunflowers, green "
        "hill, hills, rolling hills, countryside, playground, city park"
    ),
    "city": (
        "street, busy street, town, city centre, city center, metropolis, city streets, streets, skyscrapers, "
        "skyscraper, cityscape, skyline, buildings, new york, new york city, manhattan, paris, london, tokyo, "
        "berlin, rome, barcelona, madrid, amsterdam, venice, san francisco, los angeles, chicago, hong kong, "
        "shanghai, beijing, moscow, istanbul, sydney, toronto, vienna, prague, lisbon, singapore, seoul, mumbai, "
        "times square, road, highway, intersection, sidewalk"
    ),
    "desert": "sand dune, dunes, dune, sahara, gobi, cacti",
    "mountains": (
        "mountain, peak, peaks, mountain peak, mountain peaks, snowy mountain, snowy mountains, alps, himalayas, "
        "rocky mountains, mountain range, mount everest, mount fuji, mountaintop, mountain top, cliff, cliffs, "
        "snowy peak"
    ),
    "lake": "pond, lagoon, lakeside, lakeshore, loch, mountain lake, swamp",
    "jungle": "rain forest, tropical forest, tropical rainforest, palms, palm trees, bamboo forest",
    "castle": (
        "palace, fortress, citadel, ruined castle, medieval castle, haunted castle, fairy-tale castle, royal palace"
    ),
    "farm": "farmyard, barnyard, barn, ranch, farmland, stable",
    "forest": (
        "woodland, pine forest, trees, deep forest, dark forest, wood, green forest, enchanted forest, oak forest"
    ),
    "autumn forest": "fall forest, autumn park, autumn woods, autumn, fall leaves, fallen leaves, autumn trees",
    "river": "riverside, riverbank, river bank, creek, brook, waterfalls",
    "underwater": (
        "under sea, under water, under ocean, beneath sea, beneath waves, deep sea, seabed, sea floor, ocean "
        "floor, coral reefs, reef, beneath ocean, aquarium, below sea"
    ),
    "space": "universe, cosmos, milky way galaxy, orbit, among stars, between stars, starry space, nebula",
    "moon": "lunar surface, moon surface, to moon",
    "fantasy landscape": (
        "fantasy world, magical world, fairyland, fairy land, dream world, wonderland, magic land, fantasy land, "
        "magical forest, enchanted land, fairytale landscape, magical landscape, fairy tale, fantasy forest, "
        "candy land"
    ),
    "market": (
        "farmers market, street market, marketplace, market square, bazaar, christmas market, flea market, "
        "village market, carnival, fairground"
    ),
    "neon street": (
        "neon city, futuristic street, cyberpunk street, cyberpunk alley, neon-lit street, neon lit street, "
        "cyberpunk tokyo, neon-lit city, future city, city of future, sci-fi city, neon sign, neon signs, "
        "cyberpunk world"
    ),
    "arctic": "antarctica, iceberg, ice floe, frozen lake, antarctic, tundra, glacier, south pole, frozen ocean",
    "village": (
        "little village, mountain village, fishing village, medieval village, medieval town, small town, hamlet"
    ),
    "living room": (
        "bedroom, room, sofa, couch, carpet, rug, indoors, at home, cozy room, cozy living room, armchair, "
        "fireplace, bed, home, apartment, sitting room"
    ),
    "library": "bookshop, bookstore, bookshelf",
    "kitchen": "restaurant kitchen, kitchen table, oven",
    "stage": "theater, concert stage, spotlight, concert hall, opera, spotlights, circus",
}

DROPPED = ("sea", "home on carpet", "kitchen at home", "shore of lake", "fall leaves", "fair", "house")  # places alone

STRICT = (
    "flowers wildflowers trees grass buildings palms streets street field snow winter sea ocean waves skyline "
    "barn coast shore house ice moon space fair stage concert room sofa couch bed stream home water wood park "
    "autumn stove lights garden carpet rug orbit opera universe road cliff galaxy stable island hills theater "
    "theatre oven reef circus"
)

WEAK = ("snow", "winter", "ocean")
INSTEAD = {"snow": ("weather", "snow"), "winter": ("weather", "snow")}  # of a weak place, beside another

TIMES: dict[str, str] = {
    "day": (
        "in sun, in sunlight, in sunshine, in bright sunlight, under sun, sunny summer day, on summer day, spring "
        "day, in spring, in summer, at midday, hot day, under blue sky, blue sky"
    ),
    "dusk": "dawn, sunrise, at dawn, early morning, twilight, evening light, orange sky, red sky, warm evening light",
    "night": (
        "at moon, under moon, under full moon, by moonlight, in dark, in darkness, under starry sky, beneath "
        "stars, new moon, bright moon, night time, halloween night, under moonlight, moonlit sky"
    ),
}

WEATHER: dict[str, str] = {
    "rain": "rainy, raining, drizzle, heavy rain, pouring rain, rainstorm, thunderstorm, storm, downpour, rainfall",
    "snow": "snowing, blizzard, snowfall, heavy snow, falling snowflakes, snow falling, snow storm",
    "fog": "foggy, misty, hazy, haze, foggy day, mist, thick mist, dense fog, foggy morning",
}

STYLES: dict[str, str] = {
    "oil": "oil paint, oil on canvas, in oils, oil paints, painted in oils, painting, painting style, in oil",
    "pencil": "pencil sketches, graphite drawing, graphite sketch, in pencil, pencil style, sketch, sketched",
    "watercolour": (
        "watercolors, watercolours, in watercolour, in watercolor, watercolor style, watercolor painting, "
        "watercolor sketch, watercolour sketch, aquarelle, water color, water colour, watercolour illustration, "
        "watercolor illustration, watercolour, painted in watercolor, water color painting"
    ),
    "book": (
        "children's book, childrens book, children book, storybook, story book, picture book, children's "
        "illustration, storybook illustration, children's book illustration, children's story book style, picture "
        "book style, fairy tale book, story book illustration, storybook art, kids book"
    ),
    "3d": "3d rendering, 3d rendered, 3d model, 3-d, pixar style, 3d cartoon, in 3d, 3d",
}
