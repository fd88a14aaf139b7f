"""Words of the generated catalogue: topics, their subtopics and objects, and styles that cross topics.

A title is "<style> <subtopic words> <object> <form>"; the style is a taste that a user carries from
topic to topic, and that only the words of a title show.
"""

TOPICS: dict[str, dict[str, tuple[str, ...]]] = {
    "cooking": {
        "noodles": ("Ramen", "Dan Dan Noodles", "Udon", "Pho", "Pad Thai", "Soba"),
        "home dinners": ("Mapo Tofu", "Roast Chicken", "Lentil Curry", "Pot Stickers", "Paella"),
        "street food": ("Scallion Pancakes", "Tacos", "Takoyaki", "Skewers", "Falafel"),
    },
    "baking": {
        "bread": ("Sourdough", "Focaccia", "Milk Bread", "Bagels", "Ciabatta"),
        "cakes": ("Chiffon Cake", "Cheesecake", "Carrot Cake", "Tiramisu", "Swiss Roll"),
        "cookies": ("Shortbread", "Macarons", "Biscotti", "Snickerdoodles", "Oat Cookies"),
    },
    "coffee": {
        "espresso": ("Latte Art", "Flat White", "Grinder Settings", "Cortado", "Milk Steaming"),
        "pour over": ("V60 Brewing", "Chemex", "Light Roast", "Kalita Wave", "Filter Water"),
        "cafes": ("Hidden Cafe", "Rooftop Cafe", "Roastery Visit", "Bookshop Cafe", "Cafe Interior"),
    },
    "hiking": {
        "mountain trails": ("Ridge Walk", "Summit Sunrise", "Alpine Lake", "Glacier Path", "High Pass"),
        "day hikes": ("Forest Loop", "Waterfall Trail", "River Gorge", "Coastal Path", "Bamboo Grove"),
        "gear": ("Trail Boots", "Rain Jacket", "Trekking Poles", "Day Pack", "Headlamp"),
    },
    "camping": {
        "tents": ("Dome Tent", "Hammock", "Tarp Shelter", "Roof Tent", "Bell Tent"),
        "campfire meals": ("Dutch Oven Stew", "Foil Fish", "Campfire Pizza", "Skillet Eggs", "Smores"),
        "campsites": ("Lakeside Camp", "Desert Camp", "Pine Forest Camp", "Beach Camp", "Valley Camp"),
    },
    "running": {
        "marathon": ("Long Run", "Race Day", "Tempo Session", "Taper Week", "Pacing"),
        "trail running": ("Hill Repeats", "Trail Shoes", "Mountain Race", "Downhill Form", "Night Run"),
        "recovery": ("Foam Rolling", "Knee Pain", "Stretching", "Rest Day", "Sleep and Running"),
    },
    "yoga": {
        "flow": ("Sun Salutation", "Vinyasa", "Balance Flow", "Hip Openers", "Core Flow"),
        "calm": ("Yin Yoga", "Breathing", "Bedtime Yoga", "Restorative Poses", "Meditation"),
        "strength": ("Handstand", "Crow Pose", "Arm Balances", "Back Bends", "Power Yoga"),
    },
    "fitness": {
        "home workouts": ("Kettlebell Circuit", "Push Ups", "HIIT", "Resistance Bands", "Plank Challenge"),
        "gym": ("Deadlift", "Squat Form", "Bench Press", "Pull Ups", "Leg Day"),
        "nutrition": ("Protein Breakfast", "Meal Prep", "Macros", "Smoothies", "Snacks"),
    },
    "cycling": {
        "road": ("Gran Fondo", "Climbing", "Carbon Wheels", "Bike Fit", "Group Ride"),
        "gravel": ("Gravel Bike", "Bikepacking", "Forest Roads", "Wide Tyres", "Frame Bags"),
        "city": ("Folding Bike", "Commute", "Cargo Bike", "Bike Lock", "E-Bike"),
    },
    "skincare": {
        "sun care": ("Sunscreen", "After Sun Gel", "SPF Stick", "Sun Serum", "Tinted Sunscreen"),
        "routine": ("Double Cleansing", "Toner", "Vitamin C Serum", "Night Cream", "Retinol"),
        "masks": ("Clay Mask", "Sheet Mask", "Sleeping Mask", "Peel", "Honey Mask"),
    },
    "makeup": {
        "eyes": ("Eyeliner", "Smoky Eye", "Mascara", "Brow Gel", "Glitter Shadow"),
        "lips": ("Red Lipstick", "Lip Tint", "Gloss", "Lip Liner", "Lip Balm"),
        "base": ("Cushion Foundation", "Concealer", "Blush", "Setting Powder", "Contour"),
    },
    "fashion": {
        "streetwear": ("Sneakers", "Oversized Hoodie", "Cargo Pants", "Bucket Hat", "Denim Jacket"),
        "office looks": ("Blazer", "Loafers", "Pencil Skirt", "Silk Blouse", "Trench Coat"),
        "vintage": ("Thrift Haul", "Leather Bag", "Seventies Dress", "Wool Coat", "Retro Glasses"),
    },
    "travel": {
        "city trips": ("Chengdu", "Lisbon", "Kyoto", "Istanbul", "Mexico City"),
        "beaches": ("Bali", "Sanya", "Zanzibar", "Algarve", "Okinawa"),
        "trains": ("Night Train", "Silk Road Railway", "Alpine Express", "Rail Pass", "Slow Train"),
    },
    "photography": {
        "portraits": ("Window Light", "Golden Hour", "Posing", "Studio Flash", "Film Portraits"),
        "landscape": ("Long Exposure", "Milky Way", "Drone Shots", "Foggy Morning", "Tripod"),
        "editing": ("Color Grading", "Presets", "Black and White", "Retouching", "Phone Editing"),
    },
    "gardening": {
        "vegetables": ("Tomatoes", "Balcony Salad", "Chili Plants", "Potatoes in Bags", "Herb Boxes"),
        "flowers": ("Roses", "Tulip Bulbs", "Dahlias", "Wildflower Bed", "Hydrangeas"),
        "houseplants": ("Monstera", "Succulents", "Repotting", "Orchids", "Fern Care"),
    },
    "interior": {
        "small rooms": ("Studio Layout", "Storage Bench", "Murphy Bed", "Loft Bed", "Wall Shelves"),
        "living room": ("Sofa Makeover", "Gallery Wall", "Rug Choice", "Floor Lamp", "Coffee Table"),
        "diy": ("Plywood Desk", "Wall Paint", "Tile Stickers", "Peg Board", "Upcycled Chair"),
    },
    "pets": {
        "cats": ("Kitten Care", "Cat Tree", "Litter Box", "Cat Grooming", "Cat Toys"),
        "dogs": ("Puppy Training", "Dog Walk", "Leash Manners", "Dog Food", "Agility"),
        "aquarium": ("Planted Tank", "Betta Fish", "Shrimp Tank", "Water Change", "Aquascape"),
    },
    "gaming": {
        "role playing": ("Boss Guide", "Side Quests", "Character Build", "Lore Recap", "Open World Map"),
        "cozy games": ("Farm Layout", "Island Design", "Fishing Spots", "Cottage Build", "Cozy Picks"),
        "retro": ("Handheld Mods", "Pixel Classics", "Speedrun", "Arcade Night", "Cartridge Finds"),
    },
    "programming": {
        "python": ("Type Hints", "Data Frames", "Async Code", "Testing", "Packaging"),
        "web": ("CSS Grid", "Static Sites", "Browser Games", "Accessibility", "Caching"),
        "machine learning": ("Fine-Tuning", "Embeddings", "Recommenders", "Evaluation", "Vision Models"),
    },
    "music": {
        "guitar": ("Fingerstyle", "Barre Chords", "Blues Licks", "Pedal Board", "Acoustic Covers"),
        "piano": ("Jazz Voicings", "Chopin", "Sight Reading", "Pop Chords", "Scales"),
        "vinyl": ("Turntable", "Record Haul", "City Pop", "Speaker Setup", "Album Covers"),
    },
    "books": {
        "novels": ("Family Saga", "Debut Novel", "Prize Shortlist", "Translated Fiction", "Short Stories"),
        "mystery": ("Locked Room", "Nordic Crime", "Cozy Mystery", "Spy Thriller", "Detective Series"),
        "ideas": ("History of Maps", "Essays", "Popular Science", "Biographies", "Philosophy"),
    },
    "movies": {
        "science fiction": ("Time Loops", "Space Opera", "Robots", "Dystopias", "First Contact"),
        "animation": ("Stop Motion", "Hand-Drawn Films", "Studio Classics", "Anime Films", "Short Films"),
        "documentary": ("Ocean Films", "Food Films", "Music Films", "Sports Films", "City Films"),
    },
    "parenting": {
        "babies": ("First Foods", "Sleep Schedule", "Baby Carrier", "Teething", "Nursery"),
        "crafts": ("Paper Lanterns", "Finger Paint", "Salt Dough", "Cardboard Castle", "Origami"),
        "school years": ("Lunch Box", "Homework Corner", "Reading Together", "Pocket Money", "Science Kits"),
    },
    "finance": {
        "saving": ("Emergency Fund", "Spending Log", "No-Spend Month", "Cash Envelopes", "Subscriptions"),
        "investing": ("Index Funds", "Bonds", "Dividends", "Rebalancing", "Pension"),
        "side income": ("Online Shop", "Tutoring", "Print on Demand", "Newsletter", "Freelancing"),
    },
}

STYLES = ("Quick", "Budget", "Family", "Luxury", "Expert", "Minimalist")
FORMS = (
    "Guide",
    "at Home",
    "Step by Step",
    "Mistakes to Avoid",
    "My Favourites",
    "Checklist",
    "in One Week",
    "Compared",
    "Diary",
    "Essentials",
    "Before and After",
    "Tips",
)
